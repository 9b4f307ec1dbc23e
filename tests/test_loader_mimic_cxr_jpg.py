"""MIMIC-CXR-JPG field by field. Quirks covered: zipped and plain tables; the split `validate`; a blank view; a study
without labels; -1 and blanks; header-less text, a last paragraph, a special study; leading spaces of lines; latin-1;
a film without split, without report, without metadata; reports beside the films or in a folder of their own.
"""

import gzip
import shutil

import pytest

from data_scripts.loaders import mimic_cxr_jpg
from data_scripts.schema import DataError, Record, Skipped
from tests.conftest import load_raw_tree

TREE = load_raw_tree("mimic_cxr_jpg")


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, **options):
    outcome = list(mimic_cxr_jpg.read_records(raw, mimic_cxr_jpg.Options(**options)))
    records = {one.record_id.removeprefix("mimic_cxr_jpg/"): one for one in outcome if isinstance(one, Record)}
    return records, [one for one in outcome if isinstance(one, Skipped)]


def values(record):
    return {label.name: label.value for label in record.labels}


def test_fields(raw):
    records, _ = read(raw)
    first, second = records[TREE.dicom_id(1)], records[TREE.dicom_id(2)]
    assert first.image_path == f"files/p10/p10000011/s50000001/{TREE.dicom_id(1)}.jpg"
    assert (raw / first.image_path).is_file()
    assert (first.patient_id, first.study_id, first.split, first.view) == ("10000011", "50000001", "train", "PA")
    assert first.findings == "The heart is mildly enlarged since ___. There is no effusion."
    assert first.impression == "Mild cardiomegaly."
    assert (second.view, second.report, second.labels) == ("LATERAL", first.report, first.labels)
    assert [one.split for one in records.values()] == ["train"] * 3 + ["validation"] * 2 + ["test"] * 2
    assert [one.view for one in records.values()][2:5] == ["UNKNOWN", "AP", "DECUBITUS"]


def test_labels(raw):
    records, _ = read(raw)
    assert values(records[TREE.dicom_id(1)]) == {"Cardiomegaly": 1, "Pleural Effusion": 0}
    assert values(records[TREE.dicom_id(3)]) == {"No Finding": 1}
    assert values(records[TREE.dicom_id(4)]) == {"Pneumonia": -1, "Support Devices": 1}
    assert records[TREE.dicom_id(5)].labels == []


def test_texts(raw):
    records, _ = read(raw)
    assert records[TREE.dicom_id(3)].impression == "1. Normal. 2. No change."
    assert (records[TREE.dicom_id(3)].findings, records[TREE.dicom_id(4)].report) == ("", "")
    assert records[TREE.dicom_id(5)].report == ""
    assert records[TREE.dicom_id(6)].impression == "Pull the line back."
    assert records[TREE.dicom_id(7)].impression == "Temperature 38 °C."


def test_text_options(raw):
    records, _ = read(raw, last_paragraph=True, special_studies=False)
    assert records[TREE.dicom_id(5)].findings == "Portable film is read as normal."
    assert records[TREE.dicom_id(6)].report == ""
    assert records[TREE.dicom_id(1)].findings.startswith("The heart")


def test_what_is_skipped(raw):
    _, skipped = read(raw)
    assert [(one.key, one.kind) for one in skipped] == [
        ("mimic-cxr-2.0.0-metadata.csv.gz row 8", "film in no list"),
        ("mimic-cxr-2.0.0-metadata.csv.gz row 9", "report file missing"),
        (TREE.dicom_id(99), "film without a row"),
    ]
    assert "s50000008.txt: the report is missing" in skipped[1].reason


def test_reports_may_lie_beside_the_films_or_elsewhere(raw):
    before = read(raw)
    shutil.copytree(raw / "mimic-cxr-reports" / "files", raw.parent / "elsewhere" / "files")
    shutil.rmtree(raw / "mimic-cxr-reports")
    with pytest.raises(DataError, match=r"unpack mimic-cxr-reports.zip"):
        read(raw)
    assert read(raw, reports="../elsewhere")[0] == before[0]
    shutil.copytree(raw.parent / "elsewhere" / "files", raw / "files", dirs_exist_ok=True)
    assert read(raw)[0] == before[0]


def test_bad_tables_are_named(raw):
    table = raw / "mimic-cxr-2.0.0-split.csv"
    table.write_text(table.read_text().replace(",validate", ",validat"))
    _, skipped = read(raw)
    assert "split is 'validat', allowed: ['test', 'train', 'validate']" in skipped[0].reason
    labels = raw / "mimic-cxr-2.0.0-chexpert.csv.gz"
    text = gzip.decompress(labels.read_bytes()).decode()
    labels.write_bytes(gzip.compress(text.replace("-1.0", "-2.0").encode()))
    bad = read(raw)[1][0]
    assert bad.key == "mimic-cxr-2.0.0-chexpert.csv.gz row 3"
    assert "column 'Pneumonia': label value is '-2.0'" in bad.reason
    labels.write_bytes(gzip.compress(text.replace("Lung Lesion", "Lung Leson").encode()))
    with pytest.raises(DataError, match="'Lung Lesion' is missing; the closest is 'Lung Leson'"):
        read(raw)
    labels.unlink()
    with pytest.raises(DataError, match=r"chexpert.csv: the table is missing, and so is .*chexpert.csv.gz"):
        read(raw)


def test_ids_cannot_lead_out_of_the_folder(raw):
    table = raw / "mimic-cxr-2.0.0-metadata.csv.gz"
    text = gzip.decompress(table.read_bytes()).decode()
    table.write_bytes(gzip.compress(text.replace(",50000001,", ",../../x,").encode()))
    assert {one.kind for one in read(raw)[1]} >= {"malformed id"}

"""CheXpert Plus field by field. Quirks covered: sections blank on one or both sides; sections over lines; `.jpg` paths
of PNG films; both prefixes of v1.0; the index column; a lateral `view1`; views of laterals; an unknown sex, split and
label; a film missing, one without a row, an unfinished download; labels by increasing trust; the list 5x200.
"""

import json

import pytest

from data_scripts.loaders import chexpert_plus
from data_scripts.schema import DataError, Record, Skipped
from tests.conftest import load_raw_tree

TREE = load_raw_tree("chexpert_plus")


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, **options):
    outcome = list(chexpert_plus.read_records(raw, chexpert_plus.Options(**options)))
    return [one for one in outcome if isinstance(one, Record)], [one for one in outcome if isinstance(one, Skipped)]


def values(record):
    return {label.name: label.value for label in record.labels}


def test_fields(raw):
    records, _ = read(raw)
    first, second, third, fourth, fifth, valid = records
    assert first.record_id == "chexpert_plus/patient00001/study1/view1_frontal"
    assert first.image_path == "PNG/PNG/train/patient00001/study1/view1_frontal.png"
    assert (first.patient_id, first.study_id) == ("patient00001", "patient00001/study1")
    assert (first.findings, first.impression) == ("Heart is big. No effusion.", "Big heart.")
    assert second.report == first.report
    assert (third.findings, third.impression) == ("", "Normal.")
    assert (fourth.findings, fourth.impression, fifth.report) == ("Clear lungs.", "", "")
    assert [one.view for one in records] == ["AP", "LATERAL", "LATERAL", "PA", "PA", "AP"]
    assert [one.split for one in records] == ["train"] * 5 + ["validation"]
    assert [one.sex for one in records] == ["M", "M", "F", None, "F", "M"]
    assert [one.age_years for one in records] == [68, 68, 0, 90, 55, 70]
    assert valid.patient_id == "patient64541"


def test_labels_of_the_most_trusted_file_count(raw):
    records, _ = read(raw)
    assert values(records[0]) == {"Cardiomegaly": 1, "Lung Lesion": -1}, "CheXbert goes before train.csv"
    assert values(records[2]) == {"No Finding": 1}
    assert {name for name, value in values(records[-1]).items() if value} == {
        "Lung Opacity",
        "Edema",
        "Support Devices",
    }
    assert len(records[-1].labels) == 14
    assert records[3].labels == []
    rules = read(raw, label_files=["train.csv"])[0]
    assert values(rules[0]) == {"Cardiomegaly": 1, "Edema": -1, "Pneumothorax": 0}
    assert rules[-1].labels == []


def test_patients_of_the_list_go_to_the_test_split(raw):
    records, _ = read(raw, test_patients="chexpert_5x200.csv")
    assert [one.split for one in records] == ["test", "test", "train", "test", "train", "validation"]


def test_what_is_skipped(raw):
    _, skipped = read(raw)
    assert [(one.key, one.kind) for one in skipped] == [
        ("df_chexpert_plus_240401.csv row 6", "image file missing"),
        ("df_chexpert_plus_240401.csv row 8", "unknown split"),
        ("PNG/PNG/train/patient00009/study1/view1_frontal.png", "film without a row"),
    ]


@pytest.mark.parametrize("folder", ["CheXpert-v1.0-small", "DICOM/Compressed", "."])
def test_other_copies_of_the_films_are_found(raw, folder):
    (raw / folder).mkdir(parents=True, exist_ok=True)
    for part in ("train", "valid"):
        (raw / "PNG" / "PNG" / part).rename(raw / folder / part)
    (raw / "PNG" / "PNG").rmdir()
    (raw / "PNG").rmdir()
    records, _ = read(raw)
    path = "train/patient00001/study1/view1_frontal.png"
    assert records[0].image_path == (path if folder == "." else f"{folder}/{path}")
    assert read(raw, image_folder=folder)[0] == records


def test_bad_files_are_named(raw):
    labels = raw / "chexbert_labels" / "report_fixed.json"
    text = labels.read_text()
    labels.write_text(text.replace("-1.0", "-3"))
    bad = [one for one in read(raw)[1] if one.key.startswith("chexbert_labels")]
    assert [(one.key, one.kind) for one in bad] == [("chexbert_labels/report_fixed.json row 1", "unknown label value")]
    assert "column 'Lung Lesion': label value is '-3'" in bad[0].reason
    labels.write_text(json.dumps({"path_to_image": "x"}) + "\nno JSON\n")
    assert sum(one.kind == "no labels of CheXbert" for one in read(raw)[1]) == 2
    with pytest.raises(DataError, match=r"chexpert_5x200s.csv: the table is missing"):
        read(raw, label_files=["train.csv"], test_patients="chexpert_5x200s.csv")
    (raw / "PNG").rename(raw / "films")
    with pytest.raises(DataError, match="there is no folder of films"):
        read(raw)
    table = raw / "df_chexpert_plus_240401.csv"
    table.write_text(table.read_text().replace("section_findings", "section_finding"))
    with pytest.raises(DataError, match="'section_findings' is missing; the closest is 'section_finding'"):
        read(raw)

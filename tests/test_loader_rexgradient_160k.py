"""ReXGradient-160K field by field. Quirks covered: `../deid_png` paths; keys `p..._a..._s...`; views null, "N/A", of
DICOM's spelling and no view of the chest; two films of a study; ages in months; null sections; broken studies.
"""

import json

import pytest

from data_scripts.loaders import rexgradient_160k
from data_scripts.schema import DataError, Record, Skipped
from tests.conftest import load_raw_tree

TREE = load_raw_tree("rexgradient_160k")


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, **options):
    outcome = list(rexgradient_160k.read_records(raw, rexgradient_160k.Options(**options)))
    return [one for one in outcome if isinstance(one, Record)], [one for one in outcome if isinstance(one, Skipped)]


def test_fields(raw):
    records, _ = read(raw)
    first, second, third, fourth, *_ = records
    assert first.image_path == TREE.film("GRD1", "A1", 0)
    assert (raw / first.image_path).is_file()
    assert first.record_id == "rexgradient_160k/GRD1/A1/studies/1.2.A1/series/1.3.1/instances/1.4.0"
    assert (first.patient_id, first.study_id, first.sex, first.age_years) == ("GRD1", TREE.key("GRD1", "A1"), "F", 64)
    assert (first.findings, first.impression) == ("Heart is big.\nNo effusion.", "Normal.")
    assert first.report == "Heart is big. No effusion. Normal."
    assert (second.study_id, second.report) == (first.study_id, first.report)
    assert (third.impression, third.sex, third.age_years) == ("", "M", 1.5)
    assert (fourth.findings, fourth.sex, fourth.age_years) == ("", None, None)
    assert [one.view for one in records] == ["PA", "LATERAL", "UNKNOWN", "UNKNOWN", "OTHER", "AP", "UNKNOWN"]
    assert [one.split for one in records] == ["train"] * 5 + ["validation", "test"]
    assert all(one.labels == [] for one in records)


def test_what_is_skipped(raw):
    _, skipped = read(raw)
    assert [(one.key, one.kind) for one in skipped] == [
        (TREE.key("GRD2", "A4"), "report without a film"),
        (TREE.key("GRD2", "A5"), "lists of different length"),
        (TREE.key("GRD2", "A6"), "path outside of the films"),
        (TREE.key("GRD2", "A7"), "field missing"),
    ]
    assert "['Impression', 'ImagePath', 'ImageViewPosition']" in skipped[3].reason


def test_parts(raw):
    assert [one.split for one in read(raw, parts=["test"])[0]] == ["test"]
    with pytest.raises(ValueError, match=r"parts is \['val'\]"):
        rexgradient_160k.Options(parts=["val"])


def test_values_of_another_kind(raw):
    path = raw / "metadata" / "train_metadata_view_position.json"
    studies = json.loads(path.read_text())
    first, second, *_ = studies
    studies[first]["Findings"] = ["A list."]
    studies[second]["PatientAge"] = 7
    path.write_text(json.dumps(studies))
    records, skipped = read(raw)
    assert (skipped[0].key, skipped[0].kind) == (first, "field of another kind")
    assert records[0].age_years == 7


def test_bad_files_are_named(raw):
    path = raw / "metadata" / "valid_metadata_view_position.json"
    path.write_text(path.read_text()[:-3])
    with pytest.raises(DataError, match=r"valid_metadata_view_position.json: cannot be read as JSON"):
        read(raw)
    path.write_text("[]")
    with pytest.raises(DataError, match="an object of studies by key is expected, this is a list"):
        read(raw)
    path.unlink()
    with pytest.raises(DataError, match=r"valid_metadata_view_position.json: the metadata file is missing"):
        read(raw)

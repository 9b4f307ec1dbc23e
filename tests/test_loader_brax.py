"""BRAX field by field. Quirks covered: -1 and blanks; a row of blanks; one AccessionNumber of two patients; the age
`85 or more`; views AP LLD, RLO and blank; an index column; PNG or DICOM; an unknown label value; a film without a row.
"""

import pytest

from data_scripts.loaders import brax
from data_scripts.schema import DataError, Record, Skipped
from tests.conftest import load_raw_tree

TREE = load_raw_tree("brax")


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, **options):
    outcome = list(brax.read_records(raw, brax.Options(**options)))
    return [one for one in outcome if isinstance(one, Record)], [one for one in outcome if isinstance(one, Skipped)]


def values(record):
    return {label.name: label.value for label in record.labels}


def test_fields(raw):
    records, _ = read(raw)
    first = records[0]
    assert first.record_id == f"brax/{TREE.name(0, 'p1')}"
    assert first.image_path == f"images/{TREE.name(0, 'p1')}.png"
    assert (first.patient_id, first.sex, first.age_years) == ("p1", "F", 45)
    assert [one.view for one in records] == ["PA", "LATERAL", "DECUBITUS", "OBLIQUE", "UNKNOWN"]
    assert [one.age_years for one in records[2:4]] == [85, None]
    assert records[3].sex == "O"
    assert {one.report_origin for one in records} == {"labels"}


def test_studies_of_two_patients_with_one_accession_number_differ(raw):
    assert [one.study_id for one in read(raw)[0]] == ["p1/900", "p1/900", "p2/900", "p3/901", "p4/902"]


def test_labels_and_text(raw):
    records, _ = read(raw)
    assert values(records[0]) == {"Cardiomegaly": 1, "Edema": 0, "Consolidation": -1, "Support Devices": 0}
    assert values(records[2]) == {"No Finding": 1}
    assert values(records[4]) == {
        "Pneumothorax": 1,
        "Pleural Effusion": 1,
        "Pleural Other": -1,
        "Fracture": 0,
        "Support Devices": 1,
    }
    for word in ("cardiomegaly", "edema", "consolidation"):
        assert records[0].report.lower().count(word) == 1
    assert records[3].labels == []
    assert records[3].report == "", "nothing was judged: prepare skips it as an empty report"


def test_what_is_skipped(raw):
    _, skipped = read(raw)
    assert [(one.key, one.kind) for one in skipped] == [
        ("master_spreadsheet_update.csv row 6", "unknown label value"),
        ("images/id_p9/Study_1/Series_1/image-9.png", "film without a row"),
    ]
    assert "'Support Devices'" in skipped[0].reason


def test_dicom_films(raw):
    records, skipped = read(raw, image_kind="dicom")
    assert records[0].image_path == f"Anonymized_DICOMs/{TREE.name(0, 'p1')}.dcm"
    assert [one.record_id for one in records] == [one.record_id for one in read(raw)[0]]
    assert len(skipped) == 1
    with pytest.raises(ValueError, match="image_kind is 'jpeg'"):
        brax.Options(image_kind="jpeg")


def test_missing_columns_and_films_are_named(raw):
    (raw / f"images/{TREE.name(4, 'p4')}.png").unlink()
    assert "image file missing" in {one.kind for one in read(raw)[1]}
    table = raw / "master_spreadsheet_update.csv"
    table.write_text(table.read_text().replace("Pleural Other", "Pleural_Other"))
    with pytest.raises(DataError, match="'Pleural Other' is missing; the closest is 'Pleural_Other'"):
        read(raw)

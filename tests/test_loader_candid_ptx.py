"""CANDID-PTX field by field. Quirks covered: several rows (masks) of one film; -1 and blank; run lengths relative and
column by column; files called by a UID, with or without ending; columns in other case; two names of the table of rib
fractures; rows that contradict each other; films and masks without a row.
"""

import numpy as np
import pytest

from data_scripts.films.masks import decode_masks
from data_scripts.loaders import candid_ptx
from data_scripts.schema import DataError, Mask, Record, Skipped
from tests.conftest import load_raw_tree

TREE = load_raw_tree("candid_ptx")


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, **options):
    outcome = list(candid_ptx.read_records(raw, candid_ptx.Options(**options)))
    return [one for one in outcome if isinstance(one, Record)], [one for one in outcome if isinstance(one, Skipped)]


def values(record):
    return {label.name: label.value for label in record.labels}


def test_fields(raw):
    (first, second, third), _ = read(raw)
    assert first.record_id == f"candid_ptx/{TREE.PREFIX}.1.1"
    assert (first.patient_id, second.patient_id, third.patient_id) == ("12", "12", "13")
    assert first.study_id == f"{TREE.PREFIX}.1"
    assert first.split == second.split
    assert first.image_path == f"dataset/{TREE.PREFIX}.1.1"
    assert second.image_path == f"dataset/{TREE.PREFIX}.2.1.dcm"
    assert first.report == "Small left pneumothorax. Heart normal."
    assert (first.report_origin, first.language) == ("radiologist", "en")


def test_labels_and_masks(raw):
    (first, second, third), _ = read(raw)
    assert values(first) == {"Pneumothorax": 1, "Chest Tube": 0, "Acute Rib Fracture": 1}
    assert values(second) == {"Pneumothorax": 0, "Chest Tube": 0, "Acute Rib Fracture": 0}
    assert values(third) == {"Chest Tube": 1, "Acute Rib Fracture": 0}, "a blank cell: nobody looked"
    assert first.masks["Pneumothorax"] == Mask("rle_relative", [TREE.RUNS, TREE.SECOND_RUNS], (1024, 1024))
    assert sorted(third.masks) == ["Chest Tube"]
    assert second.masks == {}
    pixels = np.asarray(decode_masks(first.masks, raw, (1024, 1024))["Pneumothorax"])
    inside = {(int(row), int(column)) for row, column in np.argwhere(pixels == 255)}
    assert inside == {(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), *((row, 8) for row in range(8, 16))}


def test_tables_of_tubes_and_fractures_are_optional(raw):
    (raw / "chest_tube.csv").unlink()
    (raw / "Rib_fracture_mask_rle.csv").rename(raw / "acute_rib_fracture.csv")
    (first, second, _), _ = read(raw)
    assert values(first) == {"Pneumothorax": 1, "Acute Rib Fracture": 1}
    assert values(second) == {"Pneumothorax": 0, "Acute Rib Fracture": 0}


def test_what_is_skipped(raw):
    _, skipped = read(raw)
    assert [(one.key, one.kind) for one in skipped] == [
        ("Pneumothorax_reports.csv row 5", "rows of a film differ"),
        ("Pneumothorax_reports.csv row 7", "no patient in the name"),
        ("Pneumothorax_reports.csv row 8", "image file missing"),
        (f"dataset/{TREE.PREFIX}.7.1", "film without a row"),
        (f"Chest Tube of {TREE.PREFIX}.99.1", "mask without a row"),
    ]


def test_columns_may_be_spelt_in_another_case(raw):
    before = read(raw)
    table = raw / "Pneumothorax_reports.csv"
    text = table.read_text()
    table.write_text(text.replace(TREE.HEADER, TREE.HEADER.upper()))
    assert read(raw) == before
    table.write_text(text.replace("EncodedPixels", "Encoded"))
    with pytest.raises(DataError, match="'encodedpixels' is missing; the closest is 'encoded'"):
        read(raw)


def test_the_folder_of_films_is_named_where_it_is_missing(raw):
    (raw / "dataset").rename(raw / "films")
    with pytest.raises(DataError, match="dataset: the folder of films is missing"):
        read(raw)


def test_the_second_film_of_a_uid_is_listed(raw):
    films = sorted(path for path in (raw / "dataset").rglob("*") if path.is_file())
    (raw / "dataset" / "zz").mkdir()
    (raw / "dataset" / "zz" / films[0].name).write_bytes(films[0].read_bytes())
    outcome = list(candid_ptx.read_records(raw, candid_ptx.Options()))
    second = [one for one in outcome if isinstance(one, Skipped) and one.kind == "film found twice"]
    assert [one.key for one in second] == [f"dataset/zz/{films[0].name}"]

"""PadChest field by field. Quirks covered: gzipped table with an index column; 16-bit films; numbered folders and a
flat one; label lists with leading spaces, empty items, missing, damaged; `exclude` and `suboptimal study`; "None"
as text; header polarity MONOCHROME1; a film known to be damaged, one that is absent, one without a row; translations.
"""

from dataclasses import replace

import numpy as np
import pytest

from data_scripts.loaders import padchest
from data_scripts.reading.bimcv import finding_labels, parse_cuis, parse_list
from data_scripts.schema import DataError, Record, Skipped
from tests.conftest import load_raw_tree

TREE = load_raw_tree("padchest")
OPTIONS = padchest.Options(**TREE.OPTIONS)


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, options=OPTIONS):
    outcome = list(padchest.read_records(raw, options))
    records = {one.record_id.split("/")[1]: one for one in outcome if isinstance(one, Record)}
    return records, [one for one in outcome if isinstance(one, Skipped)]


def values(record):
    return {label.name: label.value for label in record.labels}


def test_fields(raw):
    records, _ = read(raw)
    first = records["11_00-001-001"]
    assert (first.patient_id, first.study_id, first.view, first.sex, first.age_years) == ("P1", "S1", "PA", "F", 56)
    assert first.image_path == "0/11_00-001-001.png"
    assert first.findings == "cardiomegali . pinz costofren libr ."
    assert (first.language, first.report_origin, first.impression) == ("es", "radiologist", "")
    assert records["11_00-001-002"].view == "LATERAL"
    bare = records["22_clgbhs"]
    assert (bare.view, bare.sex, bare.age_years) == ("AP", None, None)
    assert bare.image_path == "images/22_clgbhs.png"
    assert records["44_clgbhs"].view == records["33_clgbhs"].view == "OTHER"


def test_labels(raw):
    records, _ = read(raw)
    assert values(records["11_00-001-001"]) == {"cardiomegaly": 1, "pleural effusion": 1, "No Finding": 0}
    assert values(records["22_clgbhs"]) == {"cardiomegaly": 0, "pleural effusion": 0, "No Finding": 1}
    assert values(records["33_clgbhs"]) == {}, "a film without value was not judged"
    assert records["33_clgbhs"].flags == ["exclude", "suboptimal_study"]
    assert records["44_clgbhs"].labels == [], "no list: nothing was judged"
    rare, _ = read(raw, replace(OPTIONS, absent_min_count=3))
    assert values(rare["22_clgbhs"]) == {"No Finding": 1}
    assert values(rare["11_00-001-001"])["cardiomegaly"] == 1


@pytest.mark.parametrize(
    ("listed", "labels"),
    [
        ("['normal']", {"cardiomegaly": 0, "effusion": 0, "No Finding": 1}),
        ("['normal', 'unchanged']", {"cardiomegaly": 0, "effusion": 0, "No Finding": 1}),
        ("['normal', 'cardiomegaly']", {"cardiomegaly": 1, "effusion": 0, "No Finding": 0}),
        ("['nodule']", {"cardiomegaly": 0, "effusion": 0, "nodule": 1, "No Finding": 0}),
        # As before: what was there is still there, named or not.
        ("['cardiomegaly', 'unchanged']", {"cardiomegaly": 1, "No Finding": 0}),
        ("['unchanged']", {}),
        ("['exclude']", {}),
        ("['suboptimal study']", {}),
        ("['']", {}),
        ("[]", {}),
        ("nan", {}),
    ],
)
def test_a_list_that_says_nothing_of_a_finding_does_not_deny_it(listed, labels):
    found = finding_labels(parse_list(listed), ["cardiomegaly", "effusion"])
    assert {label.name: label.value for label in found} == labels


def test_what_is_skipped(raw):
    records, skipped = read(raw)
    assert len(records) == 5
    assert {one.kind: one.key.split()[-1] for one in skipped} == {
        "known bad film": TREE.KNOWN_BAD,
        "image file missing": "7",
        "labels cannot be read": "8",
        "film without a row": "images/88_no_row.png",
    }


def test_monochrome1_is_inverted_on_request(raw):
    records, _ = read(raw)
    record = records["11_00-001-002"]
    assert record.flags == ["monochrome1"]
    plain, masks = padchest.read_image(raw, record, OPTIONS)
    inverted, _ = padchest.read_image(raw, record, replace(OPTIONS, invert_monochrome1=True))
    assert masks == {}
    assert np.asarray(plain).dtype == np.uint16
    assert np.array_equal(np.asarray(inverted), 65535 - np.asarray(plain))
    other = records["11_00-001-001"]
    as_is, _ = padchest.read_image(raw, other, replace(OPTIONS, invert_monochrome1=True))
    assert np.array_equal(np.asarray(as_is), np.asarray(padchest.read_image(raw, other, OPTIONS)[0]))


def test_translations(raw):
    (raw / "english.csv").write_text("ImageID,Report_English\n11_00-001-001.png,Big heart.\n22_clgbhs.png,Normal.\n")
    records, skipped = read(raw, replace(OPTIONS, translations="english.csv"))
    assert {name: one.report for name, one in records.items()} == {
        "11_00-001-001": "Big heart.",
        "22_clgbhs": "Normal.",
    }
    assert records["22_clgbhs"].report_origin == "translation"
    assert records["22_clgbhs"].language == "en"
    assert sum(one.kind == "report without a translation" for one in skipped) == 3
    with pytest.raises(DataError, match="'report_english' is missing; the closest is 'Report_English'"):
        read(raw, replace(OPTIONS, translations="english.csv", translation_column="report_english"))
    with (raw / "english.csv").open("a") as table:
        table.write("22_clgbhs.png,Another.\n")
    records, skipped = read(raw, replace(OPTIONS, translations="english.csv"))
    assert set(records) == {"11_00-001-001"}
    assert sum(one.kind == "report without a translation" for one in skipped) == 4


def test_the_second_film_of_a_name_is_skipped(raw):
    (raw / "images" / "11_00-001-001.png").write_bytes((raw / "0" / "11_00-001-001.png").read_bytes())
    records, skipped = read(raw)
    assert records["11_00-001-001"].image_path == "0/11_00-001-001.png"
    assert ("images/11_00-001-001.png", "film found twice") in {(one.key, one.kind) for one in skipped}


def test_cells_of_lists():
    assert parse_list("['a', ' a', '', ' b c']") == ["a", "b c"]
    assert parse_list(" None ") is parse_list("") is None
    assert parse_cuis("['C0025552' 'C4273001' '' 'C0016542']") == ["C0025552", "C4273001", "C0016542"]
    for cell in ("[1, 2]", "'a'", "['a'", "__import__('os')"):
        with pytest.raises(DataError, match="is no list"):
            parse_list(cell)

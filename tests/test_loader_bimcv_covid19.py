"""BIMCV-COVID19 field by field. Quirks covered: raw 16-bit values shown by their sidecar (window, VOI LUT, polarity);
sidecars missing and damaged; views `ap`, `ll`, `pa` and none; two films of a session; CT ignored; sessions without a
report, without text, without a film; concepts printed without commas; two label tables; translations.
"""

from dataclasses import replace

import numpy as np
import pytest

from data_scripts.loaders import bimcv_covid19
from data_scripts.schema import DataError, Record, Skipped
from tests.conftest import load_raw_tree

TREE = load_raw_tree("bimcv_covid19")
OPTIONS = bimcv_covid19.Options(**TREE.OPTIONS)
FIRST, SECOND, THIRD, FOURTH, NEGATIVE = (
    "sub-S01_ses-E01_acq-1_run-1_bp-chest_vp-ap_cr",
    "sub-S01_ses-E01_run-2_bp-chest_vp-ll_dx",
    "sub-S02_ses-E02_run-1_bp-chest_dx",
    "sub-S03_ses-E03_run-1_bp-chest_vp-pa_cr",
    "sub-S05_ses-E05_run-1_bp-chest_vp-pa_cr",
)


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, options=OPTIONS):
    outcome = list(bimcv_covid19.read_records(raw, options))
    records = {one.record_id.removeprefix("bimcv_covid19/"): one for one in outcome if isinstance(one, Record)}
    return records, [one for one in outcome if isinstance(one, Skipped)]


def values(record):
    return {label.name: label.value for label in record.labels}


def test_fields(raw):
    records, _ = read(raw)
    assert set(records) == {FIRST, SECOND, THIRD, FOURTH, NEGATIVE}
    first = records[FIRST]
    assert first.image_path == f"covid19_posi/sub-S01/ses-E01/mod-rx/{FIRST}.png"
    assert (first.patient_id, first.study_id, first.sex, first.age_years) == ("sub-S01", "ses-E01", "F", 61)
    assert (first.findings, first.language) == ("neumoni bilateral .", "es")
    assert [records[name].view for name in (FIRST, SECOND, THIRD, FOURTH)] == ["AP", "LATERAL", "UNKNOWN", "PA"]
    assert records[SECOND].study_id == "ses-E01"
    assert records[FOURTH].report == "", "prepare lists it as an empty report"


def test_labels(raw):
    records, _ = read(raw)
    assert values(records[FIRST]) == {"COVID-19": 1, "pneumonia": 1, "No Finding": 0}
    assert values(records[THIRD]) == {"COVID-19": -1, "pneumonia": 1, "No Finding": 0}
    assert values(records[NEGATIVE]) == {"COVID-19": 0, "pneumonia": 0, "No Finding": 1}


def test_an_unchanged_study_denies_neither_findings_nor_covid(raw):
    table = next(raw.rglob("labels_SARS-cov-2_nega.tsv"))
    table.write_text(table.read_text().replace("['normal']", "['unchanged']"))
    records, _ = read(raw)
    assert values(records[NEGATIVE]) == {}
    table.write_text(table.read_text().replace("['unchanged']", "['unchanged', 'pneumonia']"))
    records, _ = read(raw)
    assert values(records[NEGATIVE]) == {"pneumonia": 1, "No Finding": 0}


def shown(raw, record) -> np.ndarray:
    image, masks = bimcv_covid19.read_image(raw, record, OPTIONS)
    assert masks == {}
    assert image.mode == "L"
    return np.asarray(image)[0].astype(int)


def test_films_are_shown_as_their_sidecars_say(raw):
    records, _ = read(raw)
    plain = shown(raw, records[NEGATIVE])
    assert (plain[0], plain[-1]) == (0, 255)
    assert np.all(np.diff(plain) > 0)
    inverted = shown(raw, records[FIRST])
    assert np.abs(inverted - (255 - plain)).max() <= 1
    for name in (SECOND, THIRD):
        cut = shown(raw, records[name])
        assert np.all(cut[TREE.SIDE // 2 + 1 :] == 255), "above half of the range the window and the LUT are white"
        assert np.abs(cut[: TREE.SIDE // 2] - 2 * plain[: TREE.SIDE // 2]).max() <= 2


def test_what_is_skipped(raw):
    _, skipped = read(raw)
    assert sorted((one.key.rpartition("/")[2], one.kind) for one in skipped) == [
        ("sub-S02_ses-E02_run-2_bp-chest_vp-pa_dx.png", "sidecar missing"),
        ("sub-S02_ses-E02_run-3_bp-chest_vp-pa_dx.png", "sidecar damaged"),
        ("sub-S03_ses-E99_run-1_bp-chest_vp-pa_cr.png", "session without a report"),
        ("sub-S04 ses-E04", "session without a film"),
    ]


def test_a_session_listed_twice_is_listed(raw):
    table = next(raw.rglob("labels_SARS-cov-2_nega.tsv"))
    before = read(raw)
    table.write_text(table.read_text() + TREE.NEGATIVE_ROWS[0] + "\n")
    records, skipped = read(raw)
    assert records == before[0]
    assert [one for one in skipped if one not in before[1]] == [
        Skipped("labels_SARS-cov-2_nega.tsv row 2", "sub-S05 ses-E05 has an earlier row", "session listed twice")
    ]


def test_sidecars_that_cannot_be_applied_are_named(raw):
    records, _ = read(raw)
    path = raw / records[FIRST].image_path
    text = path.with_suffix(".json").read_text()
    path.with_suffix(".json").write_text(text.replace('"vr": "US", "Value": [12]', '"vr": "US", "Value": ["many"]'))
    with pytest.raises(DataError, match=r"vp-ap_cr.png: its sidecar cannot be applied"):
        bimcv_covid19.read_image(raw, records[FIRST], OPTIONS)
    path.with_suffix(".json").write_text(text.replace("00280004", "00280005"))
    with pytest.raises(DataError, match="no photometric interpretation"):
        bimcv_covid19.read_image(raw, records[FIRST], OPTIONS)


def test_translations_and_missing_tables(raw):
    (raw / "english.csv").write_text("ReportID,Report_English\nses-E01,Pneumonia of both lungs.\n")
    records, skipped = read(raw, replace(OPTIONS, translations="english.csv"))
    assert {one.report for one in records.values()} == {"Pneumonia of both lungs."}
    assert len(records) == 2
    assert [one.kind for one in skipped].count("report without a translation") == 3
    for table in raw.rglob("labels_*.tsv"):
        table.unlink()
    with pytest.raises(DataError, match="no label table, expected derivatives/labels"):
        read(raw)

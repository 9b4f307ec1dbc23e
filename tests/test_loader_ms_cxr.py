"""MS-CXR. Quirks: several boxes of a phrase, several phrases of a film, splits of its own or none (v1.0.0)."""

import numpy as np
import pytest

from data_scripts.films.masks import decode_mask
from data_scripts.loaders import ms_cxr
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of

MIMIC = {"mimic_dir": "mimic-cxr-jpg/2.1.0"}


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("ms_cxr").build(tmp_path)


def test_a_record_is_a_phrase_on_a_film(raw):
    records, skipped = read_all(ms_cxr, raw, **MIMIC)
    assert skipped == []
    assert list(records) == ["aaaa1111-bbbb2222-1", "aaaa1111-bbbb2222-2", "cccc3333-dddd4444-1"]
    first, second, third = records.values()
    assert first.report == "invented consolidation of both bases"
    assert values_of(first) == {"Consolidation": 1}, "what is not named is not judged"
    assert (first.patient_id, first.study_id, first.split) == ("10000001", "50000001", "validation")
    assert first.image_path == second.image_path == f"mimic-cxr-jpg/2.1.0/{load_raw_tree('ms_cxr').FILM_A}"
    assert third.split == "test"


def test_boxes_of_a_phrase_are_united(raw):
    mask = read_all(ms_cxr, raw, **MIMIC)[0]["aaaa1111-bbbb2222-1"].masks["Consolidation"]
    pixels = np.asarray(decode_mask(mask, raw)) > 0
    assert pixels.shape == (80, 100)
    assert pixels.sum() == 2 * 20 * 30
    assert pixels[69, 29]
    assert pixels[40, 60]


def test_older_version_has_no_split(raw):
    table = next(raw.rglob("*.csv"))
    lines = [line.rpartition(",")[0] for line in table.read_text().splitlines()]
    (raw / "MS_CXR_Local_Alignment_v1.0.0.csv").write_text("\n".join(lines) + "\n")
    table.unlink()
    assert {record.split for record in read_all(ms_cxr, raw, **MIMIC)[0].values()} == {"test"}


def test_bad_input(raw):
    assert "--mimic_dir the folder that holds files/" in read_all(ms_cxr, raw)[1][0].reason
    table = next(raw.rglob("*.csv"))
    text = table.read_text()
    table.write_text(text.replace("Cardiomegaly", "Big Heart").replace("60,50,30,20", "60,50,x,20"))
    reasons = [one.reason for one in read_all(ms_cxr, raw, **MIMIC)[1]]
    assert "unknown finding ['Big Heart']" in reasons[0]
    assert "not a number" in reasons[1]
    table.write_text(text.replace("files/p11/", "../../../"))
    assert "leaves the raw folder" in read_all(ms_cxr, raw, **MIMIC)[1][0].reason
    table.unlink()
    with pytest.raises(DataError, match="the table is missing, expected MS_CXR_Local"):
        read_all(ms_cxr, raw, **MIMIC)

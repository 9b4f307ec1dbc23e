"""CheXpert 5x200. Quirks: blank labels, a list literal as path, both corpus folders, reports of two origins."""

import pytest

from data_scripts.loaders import chexpert_5x200
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of, write_table


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("chexpert_5x200").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(chexpert_5x200, raw)
    assert skipped == []
    first, second = records.values()
    assert first.record_id == "chexpert_5x200/patient00101_study2_view1_frontal"
    assert (first.patient_id, first.study_id, first.split) == ("patient00101", "patient00101_study2", "test")
    assert (first.view, first.sex, first.age_years) == ("PA", "M", 64)
    assert first.impression == "Invented: atelectasis of the left base."
    assert values_of(first) == {
        "Atelectasis": 1,
        "Cardiomegaly": 0,
        "Consolidation": 0,
        "Edema": 0,
        "Pleural Effusion": 0,
    }
    assert second.image_path == "CheXpert-v1.0-small/train/patient00102/study1/view2_frontal.jpg"
    assert values_of(second)["Cardiomegaly"] == 1


def test_reports_of_chexpert_plus(raw):
    write_table(
        raw / "plus.csv",
        ",path_to_image,section_findings,section_impression",
        "0,train/patient00101/study2/view1_frontal.jpg,Invented findings.,",
    )
    first, second = read_all(chexpert_5x200, raw, reports="plus.csv")[0].values()
    assert (first.findings, first.impression) == ("Invented findings.", "")
    assert second.impression == "Invented: large heart.", "not in CheXpert Plus: the benchmark's own text"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (",1.0,,0,,,,", ",1.0,,1,,,,", "exactly one must be 1"),
        (",1.0,,0,,,,", ",-1.0,,0,,,,", "exactly one must be 1"),
        (",1.0,,0,,,,", ",yes,,0,,,,", "label value is 'yes'"),
        ("patient00101/study2", "patient00101/study3", "is missing"),
    ],
)
def test_bad_rows(raw, before, after, reason):
    table = raw / "chexpert_5x200.csv"
    table.write_text(table.read_text().replace(before, after))
    records, skipped = read_all(chexpert_5x200, raw)
    assert len(records) == 1
    assert reason in skipped[0].reason

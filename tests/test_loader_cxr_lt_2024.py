"""CXR-LT 2024. Quirks: tables by task, films of another download, a new split of MIMIC-CXR, a finding with brackets."""

import pytest

from data_scripts.loaders import cxr_lt_2024
from data_scripts.loaders.cxr_lt_2024 import GOLD_STANDARD, LONG_TAILED, UNSEEN
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of

TREE = load_raw_tree("cxr_lt_2024")


def test_task_one_field_by_field(tmp_path):
    records, skipped = read_all(cxr_lt_2024, TREE.build(tmp_path), **TREE.OPTIONS)
    assert {name[:4]: record.split for name, record in records.items()} == {
        **{"0001": "train", "0002": "train", "0003": "validation", "0004": "test"}
    }
    second = records["0002aaaa-0002bbbb"]
    assert (second.patient_id, second.study_id, second.view) == ("12000001", "50000002", "LATERAL")
    assert second.image_path == f"mimic-cxr-jpg/2.1.0/{TREE.film(2)}"
    values = values_of(second)
    assert set(values) == set(LONG_TAILED)
    assert {name for name, value in values.items() if value == 1} == {"Cardiomegaly", "Kyphosis"}
    assert values_of(records["0004aaaa-0004bbbb"])["Round(ed) Atelectasis"] == 1
    assert sorted(one.kind for one in skipped) == ["film listed twice", "image file missing"]


def test_the_unseen_findings_have_no_training_films(tmp_path):
    records, skipped = read_all(cxr_lt_2024, TREE.build(tmp_path), task="task3", **TREE.OPTIONS)
    assert {record.split for record in records.values()} == {"validation", "test"}
    assert values_of(records["0004aaaa-0004bbbb"]) == {name: int(name in ("Bulla", "Hilum")) for name in UNSEEN}
    assert not skipped


def test_what_is_missing_is_named(tmp_path):
    raw = TREE.build(tmp_path)
    with pytest.raises(DataError, match=r"test_labeled_task2\.csv is missing"):
        read_all(cxr_lt_2024, raw, task="task2")
    with pytest.raises(DataError, match="task is 'task4', it must be one of task1, task2, task3"):
        cxr_lt_2024.Options(task="task4")
    assert (len(LONG_TAILED), len(GOLD_STANDARD), len(UNSEEN)) == (40, 26, 5)
    assert len({*LONG_TAILED, *UNSEEN}) == 45

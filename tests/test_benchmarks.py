"""Benchmarks ask for what the loaders give: names of labels, structures, views and splits."""

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from data_scripts.loaders import cxr_lt_2024, jsrt, load_loader, ranzcr_clip
from data_scripts.reading.labels import CHEXPERT_LABELS
from data_scripts.schema import Record
from eval.benchmarks import BENCHMARKS, SUITES
from eval.splits import find_folders, other_splits
from tests.conftest import load_raw_tree

REAL = [one for one in BENCHMARKS.values() if one.dataset != "synthetic"]
#: Names that a loader may give and that the few records of its fake raw tree do not have.
VOCABULARIES = {
    "mimic_cxr_jpg": CHEXPERT_LABELS,
    "jsrt": jsrt.STRUCTURES,
    "ranzcr_clip": ranzcr_clip.LABELS,
    "cxr_lt_2024": cxr_lt_2024.UNSEEN,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of the fake raw tree of a loader, each read once."""
    read: dict[str, list[Record]] = {}

    def get(name: str) -> list[Record]:
        if name not in read:
            module, tree = load_loader(name), load_raw_tree(name)
            raw = Path(tree.build(tmp_path_factory.mktemp(name)))
            outcomes = module.read_records(raw, module.Options(**getattr(tree, "OPTIONS", {})))
            read[name] = [one for one in outcomes if isinstance(one, Record)]
        return read[name]

    return get


@pytest.mark.parametrize("benchmark", REAL, ids=lambda one: one.name)
def test_benchmarks_ask_for_what_loaders_give(records, benchmark):
    found = records(benchmark.dataset)
    labels = {label.name for record in found for label in record.labels}
    masks = {name for record in found for name in record.masks}
    vocabulary = set(VOCABULARIES.get(benchmark.dataset, ()))
    assert set(benchmark.labels) <= labels | vocabulary
    parts = {part for parts in benchmark.structures.values() for part in parts}
    assert parts <= masks | vocabulary
    assert bool(parts) == bool(parts & masks)
    if benchmark.views:
        assert any(record.view in benchmark.views for record in found)


def test_published_protocols_ask_for_their_splits(tmp_path):
    """The shares of the labels are 1, 10 and 100 % of the training films, and all films together are the corpus."""
    nih, chexpert, rsna = (BENCHMARKS[name] for name in SUITES["med_peft"])
    assert sum(nih.splits.values()) == sum(load_loader("nih_chestxray14").SOURCE.expected.values())
    # Of RSNA, the test films are those without labels on Kaggle.
    training = rsna.splits["train"] + rsna.splits["validation"]
    assert training == sum(load_loader("rsna_pneumonia").SOURCE.expected.values())
    of_chexpert = load_loader("chexlocalize").SOURCE.expected
    assert {name: chexpert.splits[name] for name in of_chexpert} == of_chexpert
    assert [one.splits["train"] // 100 for one in (nih, chexpert, rsna)] == [784, 2_234, 251]
    for one in (nih, chexpert, rsna):
        assert one.expected == one.splits["test"]
        assert other_splits(one, stand_in(one.splits)) == []
        (note,) = other_splits(one, stand_in({**one.splits, "test": one.splits["test"] - 1}))
        assert f"test {one.splits['test'] - 1:,} of {one.splits['test']:,}" in note
    (note,) = other_splits(nih, stand_in({"train": 5, "test": 3}))
    assert "(train 5 of 78,468, validation 0 of 11,219, test 3 of 22,433)" in note
    assert other_splits(BENCHMARKS["nih_probe"], stand_in({"test": 3})) == []


def stand_in(films: dict[str, int]) -> DatasetDict:
    return DatasetDict({name: Dataset.from_dict({"row": range(count)}) for name, count in films.items()})


def test_other_splits_of_a_corpus_have_a_folder_of_their_own(tmp_path):
    (tmp_path / "nih_chestxray14").mkdir()
    assert find_folders(BENCHMARKS["nih_probe"], tmp_path, alone=False) == [tmp_path / "nih_chestxray14"]
    assert find_folders(BENCHMARKS["nih_med_peft"], tmp_path, alone=False) is None
    assert "--out DATA/nih_med_peft --split_lists train=train_list.txt" in BENCHMARKS["nih_med_peft"].how_to
    (tmp_path / "nih_med_peft").mkdir()
    assert find_folders(BENCHMARKS["nih_med_peft"], tmp_path, alone=False) == [tmp_path / "nih_med_peft"]

"""Benchmarks ask for what the loaders give: names of labels, structures, views and splits."""

from pathlib import Path

import pytest

from data_scripts.loaders import jsrt, load_loader, ranzcr_clip
from data_scripts.reading.labels import CHEXPERT_LABELS
from data_scripts.schema import Record
from eval.benchmarks import BENCHMARKS
from tests.conftest import load_raw_tree

REAL = [one for one in BENCHMARKS.values() if one.dataset != "synthetic"]
#: Names that a loader may give and that the few records of its fake raw tree do not have.
VOCABULARIES = {"mimic_cxr_jpg": CHEXPERT_LABELS, "jsrt": jsrt.STRUCTURES, "ranzcr_clip": ranzcr_clip.LABELS}


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

"""Every loader keeps the contract of `data_scripts.schema`: each reads its fake raw tree (`tests/raw_trees/NAME.py`,
with `build(root)` and, where the loader needs arguments, `OPTIONS`), and the synthetic loader draws its own.
"""

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from data_scripts.films.images import open_image
from data_scripts.films.masks import decode_masks
from data_scripts.loaders import LOADERS, load_loader
from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.schema import SPLITS, Record, Skipped, Source, check_record, record_from_json, within
from tests.conftest import RAW_TREES, load_raw_tree

ACCESS = ("open", "registration", "credentialed", "synthetic", "own")
OWN_OPTIONS = {"synthetic": {"num_records": 60, "film_size": 64}}


@pytest.fixture(scope="module", params=LOADERS)
def loader(request, tmp_path_factory):
    """A loader module, a raw folder and options for it."""
    module = load_loader(request.param)
    root = tmp_path_factory.mktemp(request.param)
    options = OWN_OPTIONS.get(request.param, {})
    if request.param not in OWN_OPTIONS:
        assert (RAW_TREES / f"{request.param}.py").is_file(), "write a fake raw tree for the new loader"
        tree = load_raw_tree(request.param)
        root, options = Path(tree.build(root)), getattr(tree, "OPTIONS", {})
    return module, root, module.Options(**options)


@pytest.fixture(scope="module")
def outcomes(loader) -> list[Record | Skipped]:
    module, raw, options = loader
    return list(module.read_records(raw, options))


@pytest.fixture(scope="module")
def records(outcomes) -> list[Record]:
    return [one for one in outcomes if isinstance(one, Record)]


def test_every_raw_tree_has_a_loader():
    assert {path.stem for path in RAW_TREES.glob("*.py")} - {"__init__"} <= set(LOADERS)


def test_source_is_documented(loader):
    source = loader[0].SOURCE
    assert isinstance(source, Source)
    assert all([source.name, source.title, source.version, source.url, source.licence, source.traps])
    assert source.access in ACCESS
    assert loader[0].__name__ == f"data_scripts.loaders.{source.name}"
    assert set(source.expected) <= set(SPLITS)
    assert all(count > 0 for count in source.expected.values())
    assert loader[0].__doc__, "the layout of the raw download"


def test_options_have_help(loader):
    for option in dataclasses.fields(loader[0].Options):
        assert option.metadata.get("help"), f"{option.name} has no help text"


def test_records_keep_the_schema(loader, records):
    assert records
    for record in records:
        check_record(record)
        assert record.record_id.startswith(record.source + "/")
        line = json.dumps(record, default=vars)
        assert json.dumps(record_from_json(line), default=vars) == line, "it can be written down and read again"
    ids = [record.record_id for record in records]
    # Rows that repeat an id are found by `prepare`; the fake trees may hold a few.
    assert len(set(ids)) > len(ids) / 2


def test_what_is_skipped_says_why(outcomes):
    for one in outcomes:
        assert isinstance(one, (Record, Skipped))
        if isinstance(one, Skipped):
            assert all([one.key, one.reason, one.kind])
            assert one.kind != one.reason, "the kind names no file or row, so that equal reasons are counted together"


def test_images_and_masks_open(loader, records):
    module, raw, options = loader
    for record in records:
        if hasattr(module, "read_image"):
            image, masks = module.read_image(raw, record, options)
            assert isinstance(image, Image.Image)
            assert all(mask.size == image.size for mask in masks.values())
        elif within(raw, record.image_path).is_file():
            image = open_image(within(raw, record.image_path))
        else:
            # `prepare` names it: the test below counts what is lost.
            continue
        for name, mask in decode_masks(record.masks, raw, image.size).items():
            assert mask.size == image.size, name
            assert {value for _, value in mask.getcolors()} <= {0, 127, 255}, name


def test_patients_are_in_one_split(records):
    splits = {}
    for record in records:
        splits.setdefault(record.patient_id, set()).add(record.split)
    assert {patient: found for patient, found in splits.items() if len(found) > 1} == {}


def test_reading_twice_gives_the_same(loader, outcomes):
    module, raw, options = loader
    assert list(module.read_records(raw, options)) == outcomes


def test_prepare_loses_nothing(loader, outcomes, tmp_path):
    module, raw, options = loader
    name = module.SOURCE.name
    arguments = PrepareArguments(out=str(tmp_path), raw=str(raw), image_size=32, num_workers=1, skip_bad=True)
    summary = prepare(name, arguments, options)
    assert summary["written"] > 0
    assert summary["read"] == len(outcomes)
    listed = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert summary["written"] + len(listed) == len(outcomes)

"""Object-CXR. Quirks: three shapes in one annotation, a blank annotation, corners outside of the film and reversed."""

import numpy as np
import pytest

from data_scripts.films.masks import decode_masks
from data_scripts.loaders import object_cxr
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("object_cxr").build(tmp_path)


def inside(raw, key: str) -> np.ndarray:
    mask = decode_masks(read_all(object_cxr, raw)[0][key].masks, raw, (100, 80))["Foreign Object"]
    return np.asarray(mask) > 0


def test_fields(raw):
    records, skipped = read_all(object_cxr, raw)
    assert skipped == []
    assert {key: (values_of(one)["Foreign Object"], one.split) for key, one in records.items()} == {
        "00001": (1, "train"),
        "00002": (0, "train"),
        "08001": (1, "validation"),
    }
    assert records["00002"].masks == {}


def test_shapes_are_united(raw):
    pixels = inside(raw, "00001")
    assert pixels[10:15, 10:20].all(), "rectangle"
    assert (pixels[45, 50], pixels[40, 40]) == (True, False), "an ellipse covers the middle of its box, not the corner"
    assert pixels[20, 80], "polygon"
    assert not pixels[60:].any()


def test_corners_may_be_reversed_and_outside(raw):
    pixels = inside(raw, "08001")
    assert pixels[:20, :30].all()
    assert pixels.sum() == 20 * 30


def test_bad_input(raw):
    table = raw / "train.csv"
    text = table.read_text()
    for bad, reason in (
        ("3 1 2 3 4", "type '3' with 4 numbers"),
        ("0 1 2 3", "type '0' with 3"),
        ("0 a b", "no coord"),
    ):
        table.write_text(text.replace("0 10 10 20 15", bad))
        assert reason in read_all(object_cxr, raw)[1][0].reason
    (raw / "dev").rename(raw / "devel")
    with pytest.raises(DataError, match="dev: the folder of films is missing"):
        read_all(object_cxr, raw)

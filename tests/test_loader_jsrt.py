"""JSRT. Quirks: big-endian values with air bright, tables without header, masks of half the size in two folds."""

import numpy as np
import pytest

from data_scripts.films.masks import decode_masks
from data_scripts.loaders import jsrt
from data_scripts.schema import DataError
from modeling_chexficient import to_eight_bit
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return load_raw_tree("jsrt").build(tmp_path_factory.mktemp("jsrt"))


def test_fields(raw):
    records, skipped = read_all(jsrt, raw)
    assert skipped == []
    nodule, clear = records["JPCLN001"], records["JPCNN002"]
    assert (values_of(nodule), values_of(clear)) == ({"Nodule": 1}, {"Nodule": 0})
    assert (nodule.split, clear.split) == ("train", "test"), "odd and even numbers are the folds"
    assert (nodule.sex, nodule.age_years, nodule.view) == ("M", 53, "PA")
    assert (clear.sex, clear.age_years) == ("F", None)
    assert {record.split for record in read_all(jsrt, raw, all_test=True)[0].values()} == {"test"}


def test_pixels_are_big_endian_and_inverted(raw):
    record = read_all(jsrt, raw)[0]["JPCLN001"]
    film, masks = jsrt.read_image(raw, record, jsrt.Options())
    pixels = np.asarray(film)
    assert (pixels.shape, pixels.dtype, masks) == ((2048, 2048), np.uint16, {})
    assert pixels[0, 0] == 65_535 // 4096, "air is dark"
    assert pixels[-1, 0] == 3072 * 65_535 // 4096
    assert np.asarray(to_eight_bit(film))[-1, 0] == pytest.approx(191, abs=1), "1 - 1024 / 4096 of 255"


def test_masks_have_half_the_size(raw):
    records = read_all(jsrt, raw)[0]
    masks = decode_masks(records["JPCLN001"].masks, raw, (2048, 2048))
    assert set(masks) == {"left lung", "right lung", "lungs"}
    areas = {name: int((np.asarray(mask) > 0).sum()) for name, mask in masks.items()}
    assert areas == {"left lung": 4 * 300 * 600, "right lung": 4 * 300 * 600, "lungs": 8 * 300 * 600}
    assert set(records["JPCNN002"].masks) == {"heart"}


def test_bad_input(raw, tmp_path):
    films = tmp_path / "All247images"
    films.mkdir()
    (films / "JPCLN005.IMG").write_bytes(b"\0" * 100)
    (films / "JPCLN007.IMG").write_bytes(np.full((2048, 2048), 4095, dtype="<u2").tobytes())
    (films / "OTHER.IMG").write_bytes(b"\0")
    records, skipped = read_all(jsrt, tmp_path)
    assert "the name 'OTHER' is not JPCLN or JPCNN" in skipped[0].reason
    with pytest.raises(DataError, match="100 bytes instead of 8388608"):
        jsrt.read_image(tmp_path, records["JPCLN005"], jsrt.Options())
    with pytest.raises(DataError, match="are the bytes swapped"):
        jsrt.read_image(tmp_path, records["JPCLN007"], jsrt.Options())

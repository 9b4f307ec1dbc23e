"""TBX11K. Quirks: labels by folder, boxes repeated over JSON files, tuberculosis without a box, films of no list."""

import numpy as np
import pytest

from data_scripts.films.masks import decode_mask
from data_scripts.loaders import tbx11k
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of, write_film


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("tbx11k").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(tbx11k, raw)
    assert skipped == [], "test and extra films are not read"
    absent = {"Active Tuberculosis": 0, "Obsolete Tuberculosis": 0}
    assert {key: values_of(record) for key, record in records.items()} == {
        "health/h0001": {"Tuberculosis": 0, "No Finding": 1, **absent},
        "sick/s0001": {"Tuberculosis": 0, "No Finding": 0, **absent},
        "tb/tb0005": {"Tuberculosis": 1, "No Finding": 0, "Active Tuberculosis": 1, "Obsolete Tuberculosis": 0},
        "tb/tb1199": {"Tuberculosis": 1, "No Finding": 0},
    }
    assert [record.split for record in records.values()] == ["train", "train", "validation", "validation"]


def test_boxes_of_several_files_count_once(raw):
    mask = read_all(tbx11k, raw)[0]["tb/tb0005"].masks["Active Tuberculosis"]
    assert mask.data == [[64.0, 128.0, 128.0, 64.0], [256.0, 128.0, 64.0, 64.0]]
    assert (np.asarray(decode_mask(mask, raw)) > 0).sum() == 128 * 64 + 64 * 64


def test_bad_input(raw):
    write_film(raw / "TBX11K" / "imgs" / "tb" / "tb9999.png")
    assert [one.kind for one in read_all(tbx11k, raw)[1]] == ["film without a row"]
    annotations = raw / "TBX11K" / "annotations" / "json" / "TBX11K_train.json"
    annotations.write_text(annotations.read_text().replace('"ActiveTuberculosis"', '"Active"'))
    with pytest.raises(DataError, match=r"TBX11K_train.json: not the COCO file of TBX11K \(KeyError: 'Active'"):
        read_all(tbx11k, raw)
    (raw / "TBX11K" / "lists" / "TBX11K_val.txt").unlink()
    annotations.unlink()
    with pytest.raises(DataError, match=r"TBX11K_val.txt: the official list is missing"):
        read_all(tbx11k, raw)

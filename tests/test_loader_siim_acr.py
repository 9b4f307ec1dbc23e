"""SIIM-ACR. Quirks: spaces in header and values, two masks of one film, "-1", relative run lengths down the columns, an
unlabelled test film.
"""

import numpy as np
import pytest

from data_scripts.films.masks import decode_mask
from data_scripts.loaders import siim_acr
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("siim_acr").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(siim_acr, raw, validation_share=0)
    assert {key: (values_of(one)["Pneumothorax"], one.split) for key, one in records.items()} == {
        "1.2.3.1": (1, "train"),
        "1.2.3.2": (0, "train"),
        "1.2.3.3": (0, "test"),
    }
    assert records["1.2.3.1"].image_path == "dicom-images-train/study1.2.3.1/series/1.2.3.1.dcm"
    assert [(one.key, one.kind) for one in skipped] == [
        ("dicom-images-test/study1.2.3.4/series/1.2.3.4.dcm", "film without a row")
    ]
    assert records["1.2.3.2"].masks == {}


def test_masks_are_relative_down_the_columns_and_united(raw):
    mask = np.asarray(decode_mask(read_all(siim_acr, raw)[0]["1.2.3.1"].masks["Pneumothorax"], raw))
    inside = {tuple(place) for place in np.argwhere(mask).tolist()}
    assert inside == {(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)} | {(row, 2) for row in range(1024)}


def test_table_of_stage_one_labels_the_training_folder_alone(raw):
    (raw / "stage_2_train.csv").rename(raw / "train-rle.csv")
    records, skipped = read_all(siim_acr, raw)
    assert list(records) == ["1.2.3.1", "1.2.3.2"]
    assert [one.key for one in skipped] == ["train-rle.csv row 4"]


def test_bad_input(raw):
    table = raw / "stage_2_train.csv"
    text = table.read_text()
    table.write_text(text.replace("1.2.3.1, 2048 1024", "1.2.3.1, -1"))
    assert "expected '-1' alone" in read_all(siim_acr, raw)[1][0].reason
    table.write_text(text.replace("2048 1024", f"{1024 * 1024} 1"))
    with pytest.raises(DataError, match=r"the image has 1024 x 1024"):
        decode_mask(read_all(siim_acr, raw)[0]["1.2.3.1"].masks["Pneumothorax"], raw)
    table.unlink()
    with pytest.raises(DataError, match=r"expected stage_2_train.csv or train-rle.csv"):
        read_all(siim_acr, raw)

"""RSNA Pneumonia. Quirks: a row for each box, blank boxes, the class repeated, unlabelled test films."""

import numpy as np
import pytest

from data_scripts.films.masks import decode_mask
from data_scripts.loaders import rsna_pneumonia
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("rsna_pneumonia").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(rsna_pneumonia, raw, test_share=1, validation_share=0)
    assert skipped == []
    assert {key: values_of(record) for key, record in records.items()} == {
        "aaaa-1": {"Pneumonia": 0, "No Finding": 1},
        "bbbb-2": {"Pneumonia": 1, "No Finding": 0},
        "cccc-3": {"Pneumonia": 0, "No Finding": 0},
    }
    assert records["bbbb-2"].image_path == "stage_2_train_images/bbbb-2.dcm"
    assert {record.split for record in records.values()} == {"test"}


def test_boxes(raw):
    records = read_all(rsna_pneumonia, raw)[0]
    assert records["aaaa-1"].masks == {}
    pixels = np.asarray(decode_mask(records["bbbb-2"].masks["Pneumonia"], raw))
    assert pixels.shape == (1024, 1024)
    assert (pixels > 0).sum() == 300 * 400 + 200 * 300
    assert (pixels[200, 100], pixels[599, 399], pixels[200, 99], pixels[600, 399]) == (255, 255, 0, 0)


def test_target_and_class_must_agree(raw):
    table = raw / "stage_2_detailed_class_info.csv"
    table.write_text(
        table.read_text().replace("Normal\nbbbb-2,Lung Opacity\nbbbb-2,Lung Opacity", "Odd\nbbbb-2,Normal")
    )
    records, skipped = read_all(rsna_pneumonia, raw)
    assert list(records) == ["cccc-3"]
    assert "gives the class 'Odd'" in skipped[0].reason
    assert "Target is 1 but the class is 'Normal'" in skipped[1].reason

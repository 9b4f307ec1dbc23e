"""Quirks of NIH ChestX-ray14 beyond `test_loaders.py`: boxes (a header over four columns, `Infiltrate`, two boxes of
one finding, a box of no film), the Kaggle copy's trailing comma, an RGBA film.
"""

import numpy as np
import pytest

from data_scripts.films.images import open_image, prepare_film
from data_scripts.films.masks import decode_masks
from data_scripts.loaders import nih_chestxray14
from data_scripts.schema import Mask, Record, Skipped
from tests.conftest import load_raw_tree

OPTIONS = nih_chestxray14.Options(validation_share=0)


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("nih_chestxray14").build(tmp_path)


def test_boxes_become_masks(raw):
    records = [one for one in nih_chestxray14.read_records(raw, OPTIONS) if isinstance(one, Record)]
    assert [sorted(record.masks) for record in records] == [["Cardiomegaly", "Infiltration"], [], []]
    first = records[0]
    assert first.masks["Cardiomegaly"] == Mask("boxes", [[256, 512, 512, 256]], (1024, 1024))
    masks = {name: np.asarray(mask) for name, mask in decode_masks(first.masks, raw, (64, 64)).items()}
    assert np.array_equal(np.argwhere(masks["Cardiomegaly"])[[0, -1]], [[32, 16], [47, 47]])
    assert masks["Infiltration"][0].tolist() == [255] * 8 + [0] * 48 + [255] * 8


def test_boxes_that_cannot_be_used_are_listed(raw):
    with (raw / "BBox_List_2017.csv").open("a") as table:
        table.write("00000001_000.png,Masss,1,1,5,5,,,\n00000001_000.png,Mass,1,1,wide,5,,,\n")
    skipped = [one for one in nih_chestxray14.read_records(raw, OPTIONS) if isinstance(one, Skipped)]
    assert [(one.key, one.kind) for one in skipped[:3]] == [
        (f"BBox_List_2017.csv row {row}", "box cannot be used") for row in (4, 5, 6)
    ]
    assert "'Masss' is unknown" in skipped[1].reason


def test_boxes_are_optional(raw):
    (raw / "BBox_List_2017.csv").unlink()
    outcome = list(nih_chestxray14.read_records(raw, OPTIONS))
    assert [one.masks for one in outcome if isinstance(one, Record)] == [{}, {}, {}]


def test_the_older_table_with_a_comma_at_each_end_reads_the_same(raw):
    before = list(nih_chestxray14.read_records(raw, OPTIONS))
    table = raw / "Data_Entry_2017_v2020.csv"
    lines = [line + "," for line in table.read_text().splitlines()]
    table.unlink()
    (raw / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")
    after = list(nih_chestxray14.read_records(raw, OPTIONS))
    assert [one for one in after if isinstance(one, Record)] == [one for one in before if isinstance(one, Record)]


def test_a_film_with_transparency_becomes_grey(raw):
    film = open_image(raw / "images_001" / "images" / "00000001_001.png")
    assert film.mode == "RGBA"
    assert prepare_film(film, 32).mode == "L"

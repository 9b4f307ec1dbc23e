"""CheXmask. Quirks: runs from 1 along the rows, poor or missing quality, films or outlines alone, gzip."""

import gzip

import numpy as np
import pytest

from data_scripts.films.masks import decode_masks
from data_scripts.loaders import chexmask
from data_scripts.schema import DataError
from tests.conftest import load_raw_tree
from tests.film_files import read_all

MASKS = "ChestX-Ray8.csv.gz"


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("chexmask").build(tmp_path)


def test_records_are_those_of_the_corpus(raw):
    records, skipped = read_all(chexmask, raw, masks=MASKS)
    assert [record.source for record in records.values()] == ["nih_chestxray14"] * 3
    assert {key: (set(record.masks), record.flags) for key, record in records.items()} == {
        "00000001_000": ({"left lung", "right lung", "lungs", "heart"}, []),
        "00000001_001": (set(), ["poor_outline"]),
        "00000003_000": (set(), ["no_outline"]),
    }
    assert [(one.key, one.kind) for one in skipped][1:] == [(f"{MASKS} row 4", "mask without a film")]
    assert "00000002_000: quality, height or width is not a number" in skipped[0].reason
    assert records["00000003_000"].split == "test", "splits are the corpus's"


def test_runs_count_from_one_along_the_rows(raw):
    record = read_all(chexmask, raw, masks=MASKS)[0]["00000001_000"]
    masks = {name: np.argwhere(np.asarray(mask)) for name, mask in decode_masks(record.masks, raw, (80, 64)).items()}
    assert masks["left lung"].tolist() == [[0, 0], [0, 1], [0, 2], [0, 4]]
    assert masks["right lung"].tolist() == [[1, 0]]
    assert len(masks["lungs"]) == 5
    assert masks["heart"].tolist() == [[2, column] for column in range(40)]


def test_quality_is_an_argument(raw):
    records, _ = read_all(chexmask, raw, masks=MASKS, min_dice_rca=0.4)
    assert "heart" in records["00000001_001"].masks
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        chexmask.Options(min_dice_rca=70)


def test_arguments_of_the_corpus(raw):
    records, _ = read_all(chexmask, raw, masks=MASKS, corpus_options='{"validation_share": 0.99}')
    assert records["00000001_000"].split == "validation"
    with pytest.raises(DataError, match="do not suit nih_chestxray14"):
        read_all(chexmask, raw, masks=MASKS, corpus_options='{"share": 1}')


@pytest.mark.parametrize(
    ("path", "parts", "key"),
    [
        ("train/patient00001/study1/view1_frontal.jpg", 4, "train/patient00001/study1/view1_frontal"),
        ("PNG/PNG/train/patient00001/study1/view1_frontal.png", 4, "train/patient00001/study1/view1_frontal"),
        ("files/p10/p10000032/s50414267/02aa804e-bde0.jpg", 1, "02aa804e-bde0"),
        ("0/2168_04-014-084.png", 1, "2168_04-014-084"),
        ("1.2.826.0.1", 1, "1.2.826.0.1"),
    ],
)
def test_keys_of_films_and_tables_agree(path, parts, key):
    assert chexmask._key(path, parts) == key


def test_bad_input(raw):
    with pytest.raises(DataError, match="the table of outlines is missing, give it by --masks"):
        read_all(chexmask, raw)
    text = gzip.decompress((raw / MASKS).read_bytes()).decode("utf-8-sig")
    (raw / "plain.csv").write_text(text.replace("Right Lung", "Right"))
    with pytest.raises(DataError, match="column 'Right Lung' is missing"):
        read_all(chexmask, raw, masks="plain.csv")
    (raw / "plain.csv").write_text(text + "\n00000001_000.png,0.9,0.9,,1 3,81 1,161 40,64,80\n")
    kinds = [one.kind for one in read_all(chexmask, raw, masks="plain.csv")[1]]
    assert kinds[-1] == "film listed twice"
    with pytest.raises(ValueError, match="corpus is 'jsrt'"):
        chexmask.Options(corpus="jsrt")

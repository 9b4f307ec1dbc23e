"""ChestDR field by field. Quirks covered: a row of zeros; a file name with dots; films of two archives; a label value
out of range; an absent film; the challenge's lists, with a film in none, one in two and one without a row.
"""

import pytest

from data_scripts.loaders import chestdr
from data_scripts.schema import DataError, Record, Skipped
from tests.conftest import load_raw_tree

TREE = load_raw_tree("chestdr")


@pytest.fixture
def raw(tmp_path):
    return TREE.build(tmp_path)


def read(raw, **options):
    outcome = list(chestdr.read_records(raw, chestdr.Options(**options)))
    return [one for one in outcome if isinstance(one, Record)], [one for one in outcome if isinstance(one, Skipped)]


def test_fields(raw):
    records, _ = read(raw)
    assert [one.record_id for one in records] == [f"chestdr/{name.removesuffix('.png')}" for name in TREE.FILMS]
    first, zeros = records[:2]
    assert zeros.image_path == f"MedFMC_train/chest/images/{TREE.DOTTED}"
    assert first.patient_id == first.study_id == "5E2653D72460CFB"
    assert len(first.labels) == 19
    assert {label.name for label in first.labels if label.value} == {
        "Pleural Effusion",
        "TB (Tuberculosis)",
        "Old Fracture",
    }
    assert all(len([mark for mark in one.report if mark == "."]) == 19 for one in records), "a sentence a label"
    assert all(label.value == 0 for label in zeros.labels)


def test_what_is_skipped(raw):
    assert {(one.key, one.kind) for one in read(raw)[1]} == {
        ("chestdr_published_19d.csv row 5", "image file missing"),
        ("chestdr_published_19d.csv row 6", "unknown label value"),
    }


def test_lists_of_the_challenge(raw):
    records, skipped = read(raw, lists="lists")
    assert [one.split for one in records] == ["train", "test", "validation"]
    assert [one.kind for one in skipped] == [
        "film in no list",
        "image file missing",
        "unknown label value",
        "film without a row",
    ]
    assert skipped[-1].key == "test_WithLabel.txt unknown.png"
    with (raw / "lists" / "test_WithoutLabel.txt").open("a") as file:
        file.write("5E2653D72460CFB.png\n")
    with pytest.raises(DataError, match=r"5E2653D72460CFB.png is in trainval.txt too"):
        read(raw, lists="lists")
    (raw / "lists" / "trainval.txt").unlink()
    with pytest.raises(DataError, match=r"trainval.txt: the list is missing"):
        read(raw, lists="lists")
    with pytest.raises(DataError, match="leaves the raw folder"):
        read(raw, lists="..")


def test_without_lists_the_split_is_by_seed(raw):
    assert {one.split for one in read(raw, validation_share=0)[0]} == {"train"}
    shares = {"validation_share": 0.4, "test_share": 0.4}
    splits = [tuple(one.split for one in read(raw, split_seed=seed, **shares)[0]) for seed in range(5)]
    assert len(set(splits)) > 1
    assert splits[0] == tuple(one.split for one in read(raw, split_seed=0, **shares)[0])


def test_a_missing_column_or_table_is_named(raw):
    table = raw / "MedFMC_trainval_annotation" / "chestdr_published_19d.csv"
    table.write_text(table.read_text().replace("fracture_old", "old_fracture"))
    with pytest.raises(DataError, match="'fracture_old' is missing; the closest is 'old_fracture'"):
        read(raw)
    table.unlink()
    with pytest.raises(DataError, match=r"chestdr_published_19d.csv: the table is missing"):
        read(raw)

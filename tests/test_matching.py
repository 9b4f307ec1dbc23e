"""What the loaders of evaluation sets share."""

import pytest

from data_scripts.reading.matching import EvaluationSplit, films_below, frame_of, match_films
from data_scripts.schema import DataError, Record, Skipped
from tests.film_files import write_film


def make_record(content: str, path: str) -> Record:
    if content == "bad":
        raise DataError("the label is bad", "bad label")
    return Record(f"x/{path}", "x", "p", "s", "test", path)


def test_every_entry_and_every_film_is_a_record_or_skipped():
    entries = [("row 1", "a", ""), ("row 2", "b", ""), ("row 3", "a", ""), ("row 4", "c", "bad")]
    films = {"a": "films/a.png", "c": "films/c.png", "d": "films/d.png"}
    record, *skipped = match_films(entries, films, make_record, "table.csv")
    assert record.image_path == "films/a.png"
    assert skipped == [
        Skipped("row 2", "the film of b is missing", "image file missing"),
        Skipped("row 3", "a is listed a second time, first in row 1", "film listed twice"),
        Skipped("row 4", "c: the label is bad", "bad label"),
        Skipped("films/d.png", "d is not in table.csv", "film without a row"),
    ]


def test_films_are_found_by_name(tmp_path):
    for name in ("films/a.PNG", "films/deep/b.png", "films/c.txt", "films/._a.png", "films/__MACOSX/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert films_below(tmp_path, "films", (".png",)) == {"a.PNG": "films/a.PNG", "b.png": "films/deep/b.png"}
    films = films_below(tmp_path, "films", (".png",), key=lambda path: "same")
    record, second = match_films([("row 1", "same", None)], films, lambda _, path: path, "table.csv")
    assert record == "films/a.PNG"
    assert (second.key, second.kind) == ("films/deep/b.png", "film found twice")
    assert "films/a.PNG" in second.reason


def test_missing_folder_names_what_is_there(tmp_path):
    with pytest.raises(DataError, match="the folder of films is missing: it is part of the download"):
        films_below(tmp_path, "films", (".png",))
    (tmp_path / "films.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"unpack .*films\.zip"):
        films_below(tmp_path, "films", (".png",))


def test_whole_set_is_for_testing_unless_shares_are_given():
    assert {EvaluationSplit().split(str(patient)) for patient in range(50)} == {"test"}
    shares = EvaluationSplit(validation_share=0.3, test_share=0.3)
    assert {shares.split(str(patient)) for patient in range(50)} == {"train", "validation", "test"}
    with pytest.raises(ValueError, match="below 1 together"):
        EvaluationSplit(validation_share=0.1)


def test_frame_is_height_and_width(tmp_path):
    write_film(tmp_path / "a.jpg", size=(100, 80))
    assert frame_of(tmp_path, "a.jpg") == (80, 100)
    (tmp_path / "b.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="its size cannot be read"):
        frame_of(tmp_path, "b.jpg")

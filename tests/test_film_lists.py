"""Splits by published lists and to numbers of films: every film once, every patient in one split, nothing lost."""

import json
from collections import Counter

import pytest

from data_scripts.loaders import rsna_pneumonia
from data_scripts.prepare.__main__ import main as prepare
from data_scripts.prepared.id_files import read_ids
from data_scripts.prepared.subsets import main as write_subsets
from data_scripts.reading.film_lists import assign_counts, assign_listed, parse_counts, parse_lists, read_film_list
from data_scripts.schema import DataError, Record, Skipped
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of


def record(path: str, patient: str, split: str = "train") -> Record:
    return Record(f"corpus/{path}", "corpus", patient, path, split, path)


def write(folder, **lists: str) -> dict:
    files = {split: folder / f"{split}.txt" for split in lists}
    for split, text in lists.items():
        files[split].write_text(text)
    return files


FILMS = [record(f"images_{n % 2}/{n // 2}_{n % 2}.png", f"patient {n // 2}") for n in range(8)]


def test_films_are_known_by_their_names_whatever_the_folder(tmp_path):
    lists = write(
        tmp_path, train="0_0.png 0 1 0\nall/0_1.jpg 1 1 0\n\n", test="/data/all/3_0.dcm 1 0 0\nlost/9_0.png 0 0 0\n"
    )
    outcomes = list(assign_listed([*FILMS, Skipped("row 9", "bad", "bad row")], lists))
    kept = {one.image_path: one.split for one in outcomes if isinstance(one, Record)}
    assert kept == {"images_0/0_0.png": "train", "images_1/0_1.png": "train", "images_0/3_0.png": "test"}
    skipped = [one for one in outcomes if isinstance(one, Skipped)]
    assert Counter(one.kind for one in skipped) == {
        "bad row": 1, "film in no list of a split": 5, "line of a list without a film": 1,
    }  # fmt: skip
    assert {one.kind for one in skipped if not one.on_request} == {"bad row"}
    assert [(one.key, one.reason.split()[0]) for one in skipped if "line" in one.kind] == [
        ("test.txt line 2", "lost/9_0.png")
    ]
    assert len(outcomes) == len(FILMS) + 2, "nothing is lost"


def test_as_many_parts_as_it_takes(tmp_path):
    """CheXpert calls every first film view1_frontal."""
    films = [record(f"PNG/train/patient{n}/study1/view1_frontal.png", f"{n}") for n in range(4)]
    lists = write(
        tmp_path,
        train="CheXpert-v1.0-small/train/patient0/study1/view1_frontal.jpg 0 1\n"
        "CheXpert-v1.0-small/train/patient7/study1/view1_frontal.jpg 0 1\n",
        validation="CheXpert-v1.0-small/valid/patient2/study1/view1_frontal.jpg 1 1\n",
    )
    outcomes = list(assign_listed(films, lists))
    assert {one.patient_id: one.split for one in outcomes if isinstance(one, Record)} == {
        "0": "train", "2": "validation",
    }  # fmt: skip
    assert sum(one.kind == "line of a list without a film" for one in outcomes if isinstance(one, Skipped)) == 1


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ("0_0.png\n", "1_0.png 1\n0_0.png 0\n", "train.txt line 1 and test.txt line 2 list the same film, 0_0.png"),
        ("0_0.png\n0_0.png\n", "1_0.png\n", "train.txt line 1 and train.txt line 2 list the same film"),
        ("0_0.png\n1_0.png\n", "1_1.png\n", r"patient 1: train.txt line 2 \(1_0.png\) .*, test.txt line 1 \(1_1.png\)"),
        ("x.png\n", "y.png\n", "none of the 2 lines of the lists, such as x.png, is the path of one of the 8 films"),
        ("\n", "1_1.png\n", "train.txt: lists no film"),
    ],
)
def test_lists_that_contradict_are_refused(train, test, words, tmp_path):
    with pytest.raises(DataError, match=words):
        list(assign_listed(FILMS, write(tmp_path, train=train, test=test)))


def test_two_films_of_one_name_are_not_told_apart(tmp_path):
    films = [record(f"{top}/a/b/c/0.png", "one") for top in ("first", "second")]
    with pytest.raises(DataError, match=r"c/0.png may mean first/a/b/c/0.png or second/a/b/c/0.png"):
        list(assign_listed(films, write(tmp_path, train="a/b/c/0.png\n")))


def test_paths_with_spaces_and_ids_with_points(tmp_path):
    (film,) = read_film_list(write(tmp_path, train="a film of 2 views.png 0 -1 1.0\n")["train"])
    assert (film.path, film.values, film.where) == ("a film of 2 views.png", ("0", "-1", "1.0"), "train.txt line 1")
    films = [Record(f"corpus/1.2.{n}", "corpus", f"{n}", "study", "train") for n in range(3)]
    outcomes = assign_listed(films, write(tmp_path, train="1.2.0\n", test="1.2.2\n"))
    assert [one.split for one in outcomes if isinstance(one, Record)] == ["train", "test"]


def test_counts_are_met_by_whole_patients():
    films = [record(f"{patient}_{n}.png", f"{patient}") for patient in range(60) for n in range(1 + patient % 4)]
    outcomes = list(assign_counts(films, {"validation": 21, "test": 33}, seed=0))
    counts = Counter(one.split for one in outcomes)
    assert (counts["validation"], counts["test"], counts["train"]) == (21, 33, len(films) - 54)
    splits = {one.patient_id: set() for one in outcomes}
    for one in outcomes:
        splits[one.patient_id].add(one.split)
    assert all(len(found) == 1 for found in splits.values())
    first = {one.record_id: one.split for one in outcomes}
    assert {one.record_id: one.split for one in assign_counts(films[::-1], {"validation": 21, "test": 33}, 0)} == first
    assert {one.record_id: one.split for one in assign_counts(films, {"validation": 21, "test": 33}, 1)} != first


def test_test_films_of_the_corpus_stay_unless_others_are_asked_for():
    films = [record(f"{n}.png", f"{n}", "test" if n < 5 else "train") for n in range(20)]
    stayed = {one.record_id: one.split for one in assign_counts(films, {"validation": 4}, 0)}
    assert Counter(stayed.values()) == {"test": 5, "validation": 4, "train": 11}
    assert all(stayed[f"corpus/{n}.png"] == "test" for n in range(5))
    with pytest.raises(DataError, match="leave none of the 20 films for training"):
        list(assign_counts(films, {"test": 20}, 0))


def test_arguments_say_what_is_wrong():
    for words in (["train"], ["learn=a.txt"], ["train="], ["train=a.txt", "train=b.txt"]):
        with pytest.raises(DataError, match=r"is not train=FILE or so, each split \(train, validation, test\) once"):
            parse_lists(words)
    for word in ("test=many", "test=0", "train=5"):
        with pytest.raises(DataError, match="split_counts"):
            parse_counts([word])


@pytest.fixture
def nih(tmp_path):
    return load_raw_tree("nih_chestxray14").build(tmp_path)


def test_a_preparation_by_lists_and_its_subsets(nih, tmp_path, capsys):
    """Against the corpus's own lists: its test film is for training here."""
    lists = write(tmp_path, train="00000002_000.png 0 1\n", test="00000001_001.png 0 0\n00000007_000.png 0 0\n")
    command = ["nih_chestxray14", "--raw", str(nih), "--image_size", "32", "--num_workers", "1", "--skip_bad"]
    given = [f"{split}={file}" for split, file in lists.items()]
    prepare([*command, "--out", str(tmp_path / "out"), "--split_lists", *given])
    said = capsys.readouterr().out
    assert "{'train': 1, 'test': 1}" in said
    assert "skipped 1: line of a list without a film" in said
    assert "skipped 1: film in no list of a split" in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["splits"] == {"train": 1, "test": 1}
    assert summary["split_lists"]["train"]["file"] == "train.txt"
    assert "split_counts" not in summary
    assert "train.txt" in (tmp_path / "out" / "README.md").read_text()
    # Another list is another preparation.
    lists["test"].write_text("00000001_000.png\n")
    with pytest.raises(SystemExit, match="prepared from other data or with other arguments"):
        prepare([*command, "--out", str(tmp_path / "out"), "--split_lists", *given])

    (tmp_path / "train_1.txt").write_text("00000002_000.png 0 1\n00000003_000.png 0 1\n")
    write_subsets([str(tmp_path / "out"), "--out", str(tmp_path / "subsets"), "--lists", str(tmp_path / "train_1.txt")])
    assert "1 films of 1 patients\n  warning: 1 lines of the list are no training films" in capsys.readouterr().out
    assert read_ids(tmp_path / "subsets" / "train_1.txt") == ["nih_chestxray14/00000002_000"]
    (tmp_path / "train_1.txt").write_text("9.png\n")
    with pytest.raises(SystemExit, match=r"no line, such as 9\.png, is one of the films"):
        write_subsets([str(tmp_path / "out"), "--out", str(tmp_path / "no"), "--lists", str(tmp_path / "train_1.txt")])


def test_a_preparation_to_numbers_of_films(nih, tmp_path, capsys):
    command = ["nih_chestxray14", "--raw", str(nih), "--image_size", "32", "--num_workers", "1", "--skip_bad"]
    prepare([*command, "--out", str(tmp_path / "out"), "--split_counts", "test=1"])
    assert "{'train': 2, 'test': 1}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="give split_lists or split_counts, not both"):
        prepare([*command, "--out", "no", "--split_counts", "test=1", "--split_lists", "train=a.txt"])
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["split_counts"] == {"test": 1}


def test_shares_that_lists_or_numbers_take_the_place_of_are_refused(nih, tmp_path):
    command = ["nih_chestxray14", "--raw", str(nih), "--out", str(tmp_path / "out"), "--validation_share", "0.3"]
    train = write(tmp_path, train="00000002_000.png\n")["train"]
    for words in (["--split_lists", f"train={train}"], ["--split_counts", "test=1"]):
        message = f"validation_share would do nothing beside {words[0].removeprefix('--')}: leave one of them out"
        with pytest.raises(SystemExit, match=message):
            prepare([*command, *words])


def test_labels_of_the_test_films_of_rsna(tmp_path):
    raw = load_raw_tree("rsna_pneumonia").build(tmp_path)
    labels = tmp_path / "test_list.txt"
    labels.write_text("stage_2_test_images/dddd-4.dcm 1 \nstage_2_test_images/eeee-5.dcm 0 \n")
    records, skipped = read_all(rsna_pneumonia, raw, test_share=0, validation_share=0, test_labels=str(labels))
    assert {key: one.split for key, one in records.items() if one.split == "test"} == {"dddd-4": "test"}
    assert values_of(records["dddd-4"]) == {"Pneumonia": 1}
    assert len(records) == 4
    assert [(one.key, one.kind) for one in skipped] == [("test_list.txt line 2", "image file missing")]
    labels.write_text("stage_2_test_images/dddd-4.dcm\n")
    records, skipped = read_all(rsna_pneumonia, raw, test_labels=str(labels))
    assert skipped[0].kind == "no label"

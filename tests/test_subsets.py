"""Nested subsets: shortest runs of whole patients, written once, trained on alone, and refused where they cannot be."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from datasets import load_dataset

from data_scripts.prepared.id_files import check_nested, read_ids, rows_of_ids, write_ids
from data_scripts.prepared.mixture import Mixture, Part, load_mixture
from data_scripts.prepared.subsets import main, nested_rows, spaced_sizes
from data_scripts.schema import DataError
from tests.adaptation import film, write_corpus
from tests.training import RECIPE
from train.adapt.__main__ import main as adapt
from train.pretrain.__main__ import main as pretrain
from train.runs.recipes import DataArguments


def test_each_size_is_the_shortest_run_of_whole_patients_that_reaches_it():
    generator = np.random.default_rng(7)
    patients = generator.choice([f"patient {number}" for number in range(300)], 1000)
    sizes = [10, 60, 400, 1000]
    rows = nested_rows(patients, sizes, seed=3)
    for size, chosen in zip(sizes, rows, strict=True):
        names = set(patients[chosen])
        assert len(chosen) >= size
        assert np.isin(patients, list(names)).sum() == len(chosen), "no patient is divided"
        films = [int((patients == name).sum()) for name in names]
        # Without the patient that came last there are too few.
        assert len(chosen) - max(films) < size
    assert all(set(fewer) < set(more) for fewer, more in pairwise(rows))
    assert rows[-1].tolist() == list(range(1000))
    assert [chosen.tolist() for chosen in nested_rows(patients, sizes, 3)] == [chosen.tolist() for chosen in rows]
    assert nested_rows(patients, sizes, 4)[0].tolist() != rows[0].tolist()
    # A size more in between changes nothing of the others.
    assert nested_rows(patients, [10, 30, 60, 400], 3)[2].tolist() == rows[1].tolist()


def test_no_kind_of_patient_comes_first():
    """Over seeds, patients of many films and of few begin alike often."""
    patients = np.repeat(np.arange(20), [1] * 10 + [9] * 10)
    first = [patients[nested_rows(patients, [1], seed)[0][0]] for seed in range(400)]
    assert 0.4 < np.mean(np.array(first) < 10) < 0.6


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([3, 11], "size 11 is above the corpus, which has 10 training films"),
        ([5, 3], "must be above 0 and rise strictly"),
        ([3, 3], "rise strictly"),
        ([0, 3], "above 0"),
        ([2, 4], "2 and 4 come to the same 5 films of 1 patients"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(DataError, match=message):
        nested_rows(["a"] * 5 + ["b"] * 5, sizes, seed=0)


def test_sizes_are_spaced_evenly_in_log():
    assert spaced_sizes(5, 300, 30_000) == [300, 949, 3000, 9487, 30_000]
    with pytest.raises(DataError, match="smallest is 300 and the corpus has 300"):
        spaced_sizes(3, 300, 300)


@pytest.fixture(scope="module")
def subsets(tiny_corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("subsets") / "nested"
    main([str(tiny_corpus), "--out", str(out), "--sizes", "60", "120"])
    return out


def test_the_command_writes_nested_files_once(tiny_corpus, subsets):
    about = json.loads((subsets / "subsets.json").read_text())
    train = load_dataset(str(tiny_corpus), split="train")
    assert about["films"] == len(train)
    files = [subsets / entry["file"] for entry in about["subsets"]]
    assert [len(read_ids(file)) for file in files] == [entry["films"] for entry in about["subsets"]]
    assert set(read_ids(files[0])) < set(read_ids(files[1])) < set(train["record_id"])
    check_nested(files)
    with pytest.raises(DataError, match=r"60\.txt lacks .* ids of the smaller subset .*120\.txt"):
        check_nested(files[::-1])
    with pytest.raises(DataError, match="hold the same films"):
        check_nested([files[0], files[0]])
    with pytest.raises(SystemExit, match="written once: choose another --out"):
        main([str(tiny_corpus), "--out", str(subsets), "--sizes", "60"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sizes", "60", "--count", "2"], "give sizes"),
        (["--count", "2"], "give sizes .* count with smallest, or lists"),
        (["--count", "1", "--smallest", "5"], "at least 2 sizes"),
        (["--sizes", "100000"], "above the corpus"),
    ],
)
def test_the_command_says_what_is_wrong(tiny_corpus, tmp_path, words, message):
    with pytest.raises(SystemExit, match=message):
        main([str(tiny_corpus), "--out", str(tmp_path / "out"), *words])
    assert not (tmp_path / "out").exists()


def test_only_the_training_split_is_limited_and_ids_that_are_not_there_are_refused(tiny_corpus, tmp_path, subsets):
    folder, whole = (Part(str(tiny_corpus)),), Mixture((Part(str(tiny_corpus)),))
    limited = Mixture(folder, subset=str(subsets / "60.txt"))
    ids = read_ids(subsets / "60.txt")
    assert load_mixture(limited, "train", ("record_id",))["record_id"][:] == ids
    assert len(load_mixture(limited, "test", ("record_id",))) == len(load_mixture(whole, "test", ("record_id",)))
    assert Mixture.from_json(json.loads(json.dumps({"parts": [vars(folder[0])], "seed": 0}))) == whole
    write_ids([*ids, "elsewhere/1", "elsewhere/2"], tmp_path / "more.txt")
    with pytest.raises(DataError, match=r"more\.txt: 2 of its .* ids are not in the training split .*elsewhere/1"):
        load_mixture(Mixture(folder, subset=str(tmp_path / "more.txt")), "train", ("record_id",))
    write_ids([*ids, ids[3]], tmp_path / "twice.txt")
    with pytest.raises(DataError, match=r"names .* 2 times"):
        read_ids(tmp_path / "twice.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no ids"):
        read_ids(tmp_path / "empty.txt")
    assert rows_of_ids(["a", "b", "a"], ["a"], "file").tolist() == [0, 2]


def test_ids_that_two_folders_share_are_refused(tmp_path):
    """Two hospitals' folders, each with a 1.png: the subset of one had the films of both."""
    one, other = (
        str(write_corpus(tmp_path / name, train=[film(number) for number in range(first, first + 6)]))
        for name, first in (("one", 0), ("other", 4))
    )
    write_ids(["discs/0", "discs/5"], tmp_path / "ids.txt")
    mixture = Mixture((Part(one), Part(other)), subset=str(tmp_path / "ids.txt"))
    with pytest.raises(DataError, match=r"'discs/5' is a film of .*one and one of .*other, which a file of ids cannot"):
        load_mixture(mixture, "train", ("record_id",))
    write_ids(["discs/0", "discs/9"], tmp_path / "ids.txt")
    assert load_mixture(mixture, "train", ("record_id",))["record_id"][:] == ["discs/0", "discs/9"]
    for folders in ((one, other), (one, one)):
        with pytest.raises(SystemExit, match="prepare one of the folders with another --source_name"):
            main([*folders, "--out", str(tmp_path / "out"), "--sizes", "2", "8"])
    with pytest.raises(ValueError, match=r"dataset_dir names .* twice, whose films would count twice"):
        DataArguments([one, other, one])


def test_a_run_trains_on_its_subset_alone_and_another_is_another_run(tiny_corpus, tmp_path, subsets):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), "--selection", "none"]
    words += ["--max_steps", "2", "--save_strategy", "steps", "--save_steps", "1"]
    pretrain([*words, "--subset", str(subsets / "60.txt")])
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["corpus_pairs"] == len(read_ids(subsets / "60.txt"))
    assert run["mixture"]["subset"] == str(subsets / "60.txt")
    shutil.rmtree(tmp_path / "checkpoint-2")
    with pytest.raises(SystemExit, match="the training data changed since"):
        pretrain([*words, "--subset", str(subsets / "120.txt"), "--resume_from_checkpoint", "last"])
    with pytest.raises(SystemExit, match="there is no such file of ids"):
        pretrain([*words, "--subset", str(tmp_path / "none.txt"), "--resume_from_checkpoint", "last"])
    model = ["--model", str(tmp_path / "model"), "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "a")]
    adapt([
        "train/recipes/classification.yaml", *model, "--subset", str(subsets / "60.txt"), "--labels", "Cardiomegaly",
        "--max_steps", "1", "--use_cpu", "true", "--method", "linear",
    ])  # fmt: skip
    adapted = json.loads((tmp_path / "a" / "run.json").read_text())
    assert adapted["train_films"] <= run["corpus_pairs"]

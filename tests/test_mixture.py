"""Mixtures: weights and caps that hold, sources that stay visible, and files that are refused."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.prepared.columns import read_column
from data_scripts.prepared.folder import load_prepared
from data_scripts.prepared.mixture import PAIR, Mixture, Part, load_mixture, mixed_rows, read_mixture
from data_scripts.schema import DataError
from data_scripts.synthetic import SyntheticOptions
from tests.training import RECIPE
from train.adapt.films import choose_films
from train.pretrain.__main__ import main

COLUMNS = ("record_id", "image", "report")


@pytest.fixture(scope="module")
def other_corpus(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("other") / "data"
    options = SyntheticOptions(num_records=120, film_size=56, seed=9, test_share=0.1, validation_share=0.1)
    prepare("synthetic", PrepareArguments(out=str(out), image_size=56, num_workers=1), options)
    return out


def write(path: Path, content) -> Path:
    path.write_text(yaml.safe_dump(content) if not isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Part("a"), [1] * 10),
        (Part("a", weight=3), [3] * 10),
        (Part("a", weight=2, cap=10_000), [2] * 10),
    ],
)
def test_whole_weights_repeat_every_pair(part, expected):
    assert np.bincount(mixed_rows(10, part, seed=(0, 0)), minlength=10).tolist() == expected


def test_broken_weights_and_caps_take_a_seeded_sample():
    rows = mixed_rows(1000, Part("a", weight=0.25), seed=(0, 0))
    assert len(rows) == len(set(rows)) == 250
    assert (np.diff(rows) > 0).all()
    assert mixed_rows(1000, Part("a", weight=0.25), seed=(0, 0)).tolist() == rows.tolist()
    assert mixed_rows(1000, Part("a", weight=0.25), seed=(0, 1)).tolist() != rows.tolist()
    counts = np.bincount(mixed_rows(1000, Part("a", weight=1.5), seed=(0, 0)))
    assert Counter(counts.tolist()) == {1: 500, 2: 500}
    assert len(mixed_rows(1000, Part("a", weight=1.5, cap=70), seed=(0, 0))) == 70


def test_what_is_evaluated_on_counts_every_film_once(tiny_corpus, other_corpus):
    mixture = Mixture((Part(str(tiny_corpus), weight=3), Part(str(other_corpus), weight=0.5, cap=5)))
    splits = [load_prepared(str(folder), COLUMNS) for folder in (tiny_corpus, other_corpus)]
    validation = load_mixture(mixture, "validation", COLUMNS)
    assert validation["record_id"][:] == [one for part in splits for one in part["validation"]["record_id"]]
    train = load_mixture(mixture, "train", COLUMNS)
    assert len(train) == 3 * len(splits[0]["train"]) + 5


def test_films_that_a_mixture_repeats_are_held_out_and_counted_once(other_corpus, tmp_path):
    """Two hospitals with the same ids, one of them three times: 17 positive films must not count as 51."""
    shutil.copytree(other_corpus, tmp_path / "south")
    one = len(load_prepared(str(other_corpus), COLUMNS)["train"])
    train = load_mixture(Mixture((Part(str(other_corpus), weight=3), Part(str(tmp_path / "south")))), "train", COLUMNS)
    splits = choose_films(train, None, lambda split: np.arange(len(split)), lambda split, rows: True, 1.0, seed=0)
    pairs = np.asarray(read_column(train, PAIR))
    held_out, learnt = pairs[splits.validation_rows], Counter(pairs[splits.train_rows].tolist())
    assert len(held_out) == len(set(held_out.tolist())), "each once"
    assert len(held_out) + splits.train_films == 2 * one
    assert not set(held_out.tolist()) & set(learnt)
    assert {learnt[pair] for pair in learnt if pair < one} == {3}, "learnt as often as the mixture says"
    assert {learnt[pair] for pair in learnt if pair >= one} == {1}
    plain = load_mixture(Mixture((Part(str(other_corpus)),)), "train", COLUMNS)
    assert PAIR not in plain.column_names


def test_a_mixture_trains_and_says_what_is_in_it(tiny_corpus, other_corpus, tmp_path):
    parts = [{"folder": str(tiny_corpus), "cap": 150}, {"folder": str(other_corpus), "weight": 0.5}]
    file = write(tmp_path / "mix.yaml", {"parts": parts, "seed": 4})
    mixture = read_mixture(file)
    assert mixture == Mixture((Part(str(tiny_corpus), cap=150), Part(str(other_corpus), 0.5)), seed=4)
    dataset = load_mixture(mixture, "train", COLUMNS)
    assert 150 < len(dataset) < 220
    out = tmp_path / "run"
    main([RECIPE, "--mixture", str(file), "--output_dir", str(out)])
    run = json.loads((out / "run.json").read_text())
    assert run["corpus_pairs"] == len(dataset)
    assert run["mixture"] == {"seed": 4, "subset": None, "parts": [vars(part) for part in mixture.parts]}
    assert (out / "curation_report.html").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("parts: [", "not YAML"),
        ({"folders": []}, "has a list `parts`"),
        ({"parts": [{"weight": 2}]}, "part 1: .* must have a folder"),
        ({"parts": [{"folder": "a", "wieght": 2}]}, "wieght"),
        ({"parts": [{"folder": "a", "weight": 0}]}, "weight is 0"),
        ({"parts": [{"folder": "a", "weight": "much"}]}, "weight is 'much'"),
        ({"parts": [{"folder": "a", "cap": 0.5}]}, "cap is 0.5"),
        ({"parts": [{"folder": "a"}, {"folder": "a"}]}, "named twice"),
        ({"parts": [{"folder": "a"}], "sede": 1}, "unknown entry"),
    ],
)
def test_mixtures_that_cannot_be_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_mixture(write(tmp_path / "mix.yaml", content))


def test_what_contradicts_a_mixture_is_refused(tiny_corpus, other_corpus, tmp_path):
    file = write(tmp_path / "mix.yaml", {"parts": [{"folder": str(tiny_corpus), "weight": 2}]})
    words = [RECIPE, "--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match=r"repeats pairs .* selection quantile"):
        main([*words, "--mixture", str(file)])
    with pytest.raises(SystemExit, match="dataset_dir or mixture, not both"):
        main([*words, "--mixture", str(file), "--dataset_dir", str(other_corpus)])
    with pytest.raises(SystemExit, match="there is no such mixture file"):
        main([*words, "--mixture", str(tmp_path / "none.yaml")])


def test_parts_that_share_films_are_warned_of(tiny_corpus, other_corpus, tmp_path):
    folders = []
    for corpus, loader in ((tiny_corpus, "nih_chestxray14"), (other_corpus, "rsna_pneumonia")):
        folder = shutil.copytree(corpus, tmp_path / loader)
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps({**summary, "loader": loader}))
        folders.append(Part(str(folder)))
    with pytest.warns(UserWarning, match="nih_chestxray14 and rsna_pneumonia: the RSNA films"):
        load_mixture(Mixture(tuple(folders)), "train", COLUMNS)

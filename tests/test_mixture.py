"""Mixtures: weights and caps that hold, sources that stay visible, and files that are refused."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset

from data_scripts.prepare import PrepareArguments, prepare
from data_scripts.prepared.folder import load_prepared
from data_scripts.prepared.mixture import Mixture, Part, load_mixture, mixed_rows, read_mixture
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


def test_films_that_a_mixture_repeats_are_held_out_and_counted_once():
    """Three times each of 40 films of 20 patients: of 8 positive films held out, 24 would have made a point."""
    ids = [f"f{number}" for number in range(40)] * 3
    train = Dataset.from_dict({"record_id": ids, "patient_id": [f"p{int(one[1:]) // 2}" for one in ids]})
    splits = choose_films(train, None, lambda split: np.arange(len(split)), lambda split, rows: True, 1.0, seed=0)
    held_out = [ids[row] for row in splits.validation_rows]
    assert len(held_out) == len(set(held_out)) == 8
    learnt = Counter(ids[row] for row in splits.train_rows)
    assert not set(held_out) & set(learnt)
    assert (splits.train_films, splits.train_patients) == (len(learnt), 16) == (32, 16)
    assert set(learnt.values()) == {3}, "they are learnt as often as the mixture says"


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

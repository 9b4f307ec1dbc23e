"""Films that show nothing, told by their pixels."""

import json

import numpy as np
import pytest
from datasets import concatenate_datasets, load_dataset
from PIL import Image

from data_scripts.loaders import synthetic
from data_scripts.prepare import PrepareArguments, prepare
from modeling_chexficient.input_check_chexficient import film_quality


@pytest.fixture(scope="module")
def broken_corpus(tmp_path_factory):
    """160 films, of which the broken ones are flagged, with the command's summary."""
    out = tmp_path_factory.mktemp("broken") / "data"
    options = synthetic.Options(num_records=160, film_size=112, broken_image_share=0.2, seed=5)
    summary = prepare("synthetic", PrepareArguments(out=str(out), image_size=112, num_workers=1), options)
    return out, summary


def test_exactly_the_broken_films_look_broken(broken_corpus):
    out, summary = broken_corpus
    rows = concatenate_datasets(list(load_dataset(str(out)).values()))
    flagged = [bool({"broken_image"} & set(flags)) for flags in rows["flags"]]
    assert 10 < sum(flagged) < 100
    assert [film_quality(film).looks_broken() for film in rows["image"]] == flagged
    # The columns say the same as the pixels.
    stored = [(row["flat_share"], row["neighbour_correlation"]) for row in rows["quality"]]
    assert stored == [pytest.approx(film_quality(film), abs=1e-6) for film in rows["image"]]
    assert list(summary["broken"].values()) == [sum(flagged)]


def test_skip_bad_leaves_them_out_also_of_a_finished_folder(broken_corpus, tmp_path):
    _, summary = broken_corpus
    again = tmp_path / "data"
    options = synthetic.Options(num_records=160, film_size=112, broken_image_share=0.2, seed=5)
    for skip_bad in (False, True):
        arguments = PrepareArguments(out=str(again), image_size=112, num_workers=1, skip_bad=skip_bad)
        cleaned = prepare("synthetic", arguments, options)
    (broken,) = summary["broken"].values()
    assert cleaned["written"] == summary["written"] - broken
    assert (cleaned["skipped"], cleaned["broken"]) == (broken, {})
    assert not any("broken_image" in flags for flags in load_dataset(str(again), split="train")["flags"])
    skipped = [json.loads(line) for line in (again / "skipped.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in skipped} == {"film looks broken (flat or noise)"}


@pytest.mark.parametrize("size", [112, 378, 1024])
@pytest.mark.parametrize("kind", ["static", "black with noise", "white with noise", "one grey", "half transmitted"])
def test_useless_films_of_any_size(kind, size):
    noise = np.random.default_rng(size)
    slope = np.add.outer(np.linspace(0, 120, size), np.linspace(0, 120, size)) + noise.normal(0, 3, (size, size))
    pixels = {
        "static": noise.integers(0, 256, (size, size)),
        "black with noise": 6 + noise.integers(0, 8, (size, size)),
        "white with noise": 245 + noise.integers(0, 8, (size, size)),
        "one grey": np.full((size, size), 90),
        "half transmitted": np.where(np.arange(size) < size // 2, slope, 200),
    }[kind]
    assert film_quality(Image.fromarray(pixels.astype(np.uint8))).looks_broken()
    assert not film_quality(Image.fromarray(slope.astype(np.uint8))).looks_broken()

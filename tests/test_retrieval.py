"""Ranks by hand, with repeated texts and several films of a study, against brute force, and at size."""

import tracemalloc

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from scipy.stats import hypergeom

from eval.artifacts import load_artifact
from eval.benchmarks import Benchmark
from eval.records.results import RetrievalResult, load_result
from eval.settings import EvaluationSettings
from eval.tasks.ranking import (
    chance_levels,
    judge_ranks,
    pair_up,
    recalls,
    retrieval_ranks,
    top_hits,
    weighted_medians,
)
from eval.tasks.retrieval import evaluation_texts, run
from tests.pixel_model import SIDE, PixelModel, draw_image

BENCHMARK = Benchmark("retrieval", 3, "retrieval")
SETTINGS = EvaluationSettings(batch_size=7, resamples=50)


def unit(array) -> np.ndarray:
    array = np.asarray(array, dtype=np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def draw_embeddings(films: int, texts: int, size: int, seed: int = 0, text_of_film=None) -> tuple:
    """Films near the embeddings of their texts."""
    generator = np.random.default_rng(seed)
    text_embeddings = unit(generator.normal(size=(texts, size)))
    own = generator.integers(0, texts, films) if text_of_film is None else text_of_film
    return unit(text_embeddings[own] + 0.3 * generator.normal(size=(films, size))), text_embeddings, own


def test_the_text_is_impression_then_findings_with_single_spaces():
    rows = {"findings": ["Clear\n lungs. ", "", None], "impression": [" Normal.", "  ", "Nodule."]}
    dataset = Dataset.from_dict(rows)
    assert evaluation_texts(dataset) == ["Normal. Clear lungs.", "", "Nodule."]


def test_equal_texts_and_films_of_a_study_are_right():
    pairs = pair_up(["normal", "nodule", "normal", "later"], ["s1", "s2", "s3", "s2"])
    assert pairs.texts == ["normal", "nodule", "later"]
    assert pairs.text_of_film.tolist() == [0, 1, 0, 2]
    assert list(zip(pairs.films, pairs.right_texts, strict=True)) == [(0, 0), (1, 1), (1, 2), (2, 0), (3, 1), (3, 2)]


def test_ranks_by_hand():
    """Similarities of four films (rows) to three texts; films 0 and 2 have text 0, films 1 and 3 are of one study."""
    similarities = np.array([[0.1, 0.2, 0.3], [0.9, 0.2, 0.8], [0.6, 0.5, 0.4], [0.1, 0.9, 0.3]], dtype=np.float32)
    pairs = pair_up(["normal", "nodule", "normal", "later"], ["s1", "s2", "s3", "s2"])
    film_ranks, text_ranks = retrieval_ranks(similarities, np.eye(3, dtype=np.float32), pairs)
    # Film 0: both others are nearer. Film 1: "later" of its study is second, behind "normal".
    assert film_ranks.tolist() == [3, 2, 1, 1]
    # Text 0: its film 2 (0.6) stands behind film 1 (0.9); text 1: film 3 is first; text 2: film 1 is.
    assert text_ranks.tolist() == [2, 1, 1]
    hits = recalls(film_ranks, np.ones((1, 4)), 1), recalls(film_ranks, np.ones((1, 4)), 5)
    assert (float(hits[0][0]), float(hits[1][0])) == (0.5, 1)


def test_a_collapsed_model_gets_the_worst_ranks():
    films, texts = unit(np.ones((6, 3))), unit(np.ones((4, 3)))
    pairs = pair_up(["a", "b", "c", "d", "a", "a"], range(6))
    film_ranks, text_ranks = retrieval_ranks(films, texts, pairs)
    assert film_ranks.tolist() == [4] * 6
    assert text_ranks.tolist() == [4, 6, 6, 6]


@pytest.mark.parametrize("block_elements", [1, 50, 1 << 20])
def test_ranks_equal_a_brute_force_for_every_size_of_block(block_elements):
    films, texts, own = draw_embeddings(70, 30, 8)
    words = [f"text {number}" for number in own]
    studies = np.arange(70) // 2
    pairs = pair_up(words, studies)
    number = {text: row for row, text in enumerate(pairs.texts)}
    order = [int(text.split()[1]) for text in pairs.texts]
    texts = texts[order]
    right = np.zeros((70, len(texts)), dtype=bool)
    for film in range(70):
        for other in range(70):
            if studies[film] == studies[other]:
                right[film, number[words[other]]] = True
    similarities = films @ texts.T
    ranked_texts, ranked_films = np.argsort(-similarities, axis=1), np.argsort(-similarities.T, axis=1)
    by_film = [1 + np.flatnonzero(right[film][ranked_texts[film]])[0] for film in range(70)]
    by_text = [1 + np.flatnonzero(right[:, text][ranked_films[text]])[0] for text in range(len(texts))]
    film_ranks, text_ranks = retrieval_ranks(films, texts, pairs, block_elements)
    np.testing.assert_array_equal(film_ranks, by_film)
    np.testing.assert_array_equal(text_ranks, by_text)
    np.testing.assert_array_equal(top_hits(films[:5], texts, 3), ranked_texts[:5, :3])


def test_weighted_medians_are_those_of_repeated_values():
    generator = np.random.default_rng(0)
    values, weights = generator.integers(1, 50, 31), generator.integers(0, 4, (20, 31)).astype(float)
    expected = [np.median(np.repeat(values, row.astype(int))) for row in weights]
    np.testing.assert_array_equal(weighted_medians(values, weights), expected)
    assert np.isnan(weighted_medians(values, np.zeros((1, 31)))[0])


def test_chance_is_the_hypergeometric_one_and_what_random_embeddings_reach():
    right = np.array([1, 3, 7])
    expected = np.mean([1 - hypergeom.pmf(0, 20, count, 5) for count in right])
    assert chance_levels(right, 20)["5"] == pytest.approx(expected)
    assert chance_levels(np.array([1]), 8)["10"] == 1
    generator = np.random.default_rng(0)
    texts = [f"text {number % 100}" for number in range(400)]
    pairs = pair_up(texts, range(400))
    film_ranks, text_ranks = retrieval_ranks(
        unit(generator.normal(size=(400, 16))), unit(generator.normal(size=(100, 16))), pairs
    )
    to_text, to_film = judge_ranks(film_ranks, text_ranks, pairs, np.arange(400), 50, seed=0)
    for direction in (to_text, to_film):
        for cutoff in ("5", "10"):
            assert direction.r_at[cutoff].value == pytest.approx(direction.chance[cutoff], abs=0.05)
    assert (to_text.queries, to_text.candidates, to_film.queries, to_film.candidates) == (400, 100, 100, 400)


def test_figures_and_intervals_by_patient(few_patients):
    pairs = pair_up(["a", "b", "a", "c"], range(4))
    film_ranks, text_ranks = np.array([1, 2, 7, 20]), np.array([1, 1, 12])
    to_text, to_film = judge_ranks(film_ranks, text_ranks, pairs, np.array(["p", "p", "q", "q"]), 400, seed=0)
    assert [to_text.r_at[cutoff].value for cutoff in ("1", "5", "10")] == [0.25, 0.5, 0.75]
    assert (to_text.median_rank.value, to_text.mean_rank) == (4.5, 7.5)
    # Patient p has R@5 of 1, patient q of 0: so is a resample of one of them alone.
    assert (to_text.r_at["5"].low, to_text.r_at["5"].high) == (0, 1)
    # Every distinct text counts once, though "a" is of two films.
    assert to_film.r_at["1"].value == pytest.approx(2 / 3)
    assert to_film.mean_rank == pytest.approx(14 / 3)


def test_embeddings_that_cannot_be_ranked_are_refused():
    films, texts, own = draw_embeddings(6, 3, 4, text_of_film=np.arange(6) % 3)
    pairs = pair_up([str(number) for number in own], range(6))
    with pytest.raises(ValueError, match="are not of 6 films and 3 distinct texts"):
        retrieval_ranks(films[:5], texts, pairs)
    films[4, 0] = np.nan
    with pytest.raises(ValueError, match="the embeddings of 1 films are not finite, the first is number 4"):
        retrieval_ranks(films, texts, pairs)


def make_split(count: int = 48, noise: float = 60.0) -> DatasetDict:
    """Films whose text names their brightest pixel, two of every three; every fourth film has no text."""
    generator = np.random.default_rng(0)
    codes = np.arange(count) % SIDE**2
    rows = {"image": [], "impression": [], "findings": []}
    for number, code in enumerate(codes):
        values = generator.uniform(0, noise, SIDE**2)
        values[code] = 255 if number % 3 else 0
        rows["image"].append(draw_image(values))
        rows["impression"].append("" if number % 4 == 3 else f" code  {code}")
        rows["findings"].append("" if number % 4 == 3 else "\nas seen.")
    names = [f"p{number // 2}" for number in range(count)]
    views = ["PA" if number % 3 else "AP" for number in range(count)]
    ids = [f"film-{number}" for number in range(count)]
    # Studies are numbered anew for every patient.
    rows |= {"patient_id": names, "study_id": ["1", "2"] * (count // 2), "view": views, "record_id": ids}
    rows["source"] = ["synthetic"] * count
    return DatasetDict(test=Dataset.from_dict(rows))


def test_a_run_judges_the_films_that_have_a_text(tmp_path):
    settings = EvaluationSettings(batch_size=7, resamples=50, out=tmp_path)
    result = run(BENCHMARK, PixelModel(), make_split(), settings)
    assert (result.n_images, result.n_texts, result.n_distinct_texts) == (36, 36, 12)
    assert (result.provenance.films, result.provenance.patients) == (36, 24)
    assert result.provenance.seen_sources == ["synthetic"]
    assert result.notes[1:] == [
        "12 of 48 films have no text and were left out.",
        "24 of 36 films have a text that an earlier film has: equal texts are one.",
    ]
    # A film shows its code or hides it; each text is of three films, one of which hides it.
    to_text, to_film = result.image_to_text, result.text_to_image
    assert to_text.r_at["1"].value == pytest.approx(2 / 3)
    assert to_text.median_rank.value == 1
    assert to_film.r_at["1"].value == 1
    assert (to_text.candidates, to_film.candidates) == (12, 36)
    groups = {group.value: group for group in result.subgroups}
    assert (groups["PA"].films, groups["PA"].estimate.value) == (24, 1)
    assert groups["AP"].estimate.value < 0.5
    assert to_text.chance["1"] == pytest.approx(1 / 12)
    result.save(tmp_path / "result.json")
    assert load_result(tmp_path / "result.json") == result
    assert isinstance(load_result(tmp_path / "result.json"), RetrievalResult)


def test_the_gallery_holds_rows_of_the_split_and_nothing_else(tmp_path):
    splits = make_split()
    run(BENCHMARK, PixelModel(), splits, EvaluationSettings(resamples=10, out=tmp_path))
    arrays, values = load_artifact(tmp_path, "retrieval")
    assert values == {}
    texts = evaluation_texts(splits["test"])
    for name in ("image_to_text", "text_to_image"):
        assert arrays[f"{name}_hits"].shape == (6, 5)
        for query, rank, hits, right in zip(
            *(arrays[f"{name}_{part}"] for part in ("queries", "ranks", "hits", "right")), strict=True
        ):
            assert texts[query]
            assert [texts[hit] == texts[query] for hit in hits] == right.astype(bool).tolist()
            assert (right.argmax() + 1 == rank) if right.any() else rank > 5


def test_what_cannot_be_retrieved_is_refused():
    splits = make_split()
    with pytest.raises(ValueError, match="has no text tower"):
        run(BENCHMARK, PixelModel(sees_text=False), splits, SETTINGS)
    with pytest.raises(ValueError, match=r"column\(s\) \['findings'\] are missing"):
        run(BENCHMARK, PixelModel(), DatasetDict(test=splits["test"].remove_columns("findings")), SETTINGS)
    for rows, found in (([0, 16], 1), ([3], 0)):
        with pytest.raises(ValueError, match=f"has {found} distinct texts: there is nothing to tell apart"):
            run(BENCHMARK, PixelModel(), DatasetDict(test=splits["test"].select(rows)), SETTINGS)


def check_rank(rank: int, similarities: np.ndarray, right: np.ndarray) -> None:
    """The rank is that of the best right candidate, but for candidates whose similarity is equal up to rounding."""
    best, wrong = similarities[right].max(), similarities[~right]
    assert 1 + np.sum(wrong > best) <= rank <= 1 + np.sum(wrong >= best - 2e-6)


def check_at_size(count: int, size: int, memory: int) -> None:
    """Ranks of `count` pairs, some of one text, in less than `memory` bytes; those of a few against brute force."""
    own = np.arange(count)
    own[: count // 10] //= 2
    films, texts, _ = draw_embeddings(count, count, size, text_of_film=own)
    pairs = pair_up([str(number) for number in own], range(count))
    texts = texts[[int(text) for text in pairs.texts]]
    tracemalloc.start()
    film_ranks, text_ranks = retrieval_ranks(films, texts, pairs)
    assert tracemalloc.get_traced_memory()[1] < memory
    tracemalloc.stop()
    for film in (0, 1, count // 2, count - 1):
        check_rank(film_ranks[film], texts @ films[film], np.arange(len(texts)) == pairs.text_of_film[film])
    for text in (0, 1, len(texts) - 1):
        check_rank(text_ranks[text], films @ texts[text], pairs.text_of_film == text)
    assert 0.05 < np.mean(film_ranks == 1) < 0.9999


def test_five_thousand_pairs_in_bounded_memory():
    check_at_size(5_000, 32, memory=120 << 20)


@pytest.mark.slow
def test_a_hundred_thousand_pairs_in_bounded_memory():
    """The whole matrix would be 40 GB."""
    check_at_size(100_000, 64, memory=200 << 20)

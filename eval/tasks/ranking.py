"""Ranks of right answers in retrieval, exact and in bounded memory, and the figures that are made of them.

The candidates for a film are the distinct texts, each once; those for a text are all films. Right for a film is every
text of its study, and right for a text every film of a study that has it: equal texts, and several films of a study,
are no mistakes. A query's rank is that of its first right candidate among all; wrong candidates whose similarity equals
that of the right one, but for rounding, come before it, so a model whose embeddings have collapsed gets the worst ranks
and not the best.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from eval.records.results import Direction, Estimate
from eval.statistics.significance import by_patient_intervals

#: R@k of these k.
CUTOFFS = (1, 5, 10)
#: Similarities of unit vectors in fp32 that differ by less are equal.
_ROUNDING = 1e-6
#: Similarities that are held at once: 64 MiB of fp32.
_BLOCK_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class Pairs:
    """Which texts are right for which films.

    Args:
        texts: the t distinct texts, in the order of their first film.
        text_of_film: [n], the film's own text, an index of `texts`.
        films, right_texts: [p], all right pairs, by film; a film's own text is one of them.
    """

    texts: list[str]
    text_of_film: np.ndarray
    films: np.ndarray
    right_texts: np.ndarray


def pair_up(texts: Sequence[str], studies: Sequence) -> Pairs:
    """The distinct texts, and which are right for which film.

    Args:
        texts: of every film, normalised and not empty.
        studies: of every film, unique over patients.
    """
    numbers: dict[str, int] = {}
    own = [numbers.setdefault(text, len(numbers)) for text in texts]
    of_study = defaultdict(set)
    for study, text in zip(studies, own, strict=True):
        of_study[study].add(text)
    pairs = [(film, text) for film, study in enumerate(studies) for text in sorted(of_study[study])]
    films, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return Pairs(list(numbers), np.array(own, dtype=np.int64), films, right)


def retrieval_ranks(
    films: np.ndarray, texts: np.ndarray, pairs: Pairs, block_elements: int = _BLOCK_ELEMENTS
) -> tuple[np.ndarray, np.ndarray]:
    """Rank of the first right candidate, 1 is best: of every film among the texts [n], of every text among films [t].

    Exact, in one pass over blocks of films for both directions.

    Args:
        films: embeddings [n, D], fp32 of unit norm.
        texts: embeddings [t, D] of `pairs.texts`, likewise.
        pairs: what is right.
        block_elements: how many similarities are held at once (at least one film's); the ranks do not depend on it.

    Raises:
        ValueError: the embeddings are not of those films and texts, or not finite.
    """
    if len(films) != len(pairs.text_of_film) or len(texts) != len(pairs.texts) or films.shape[1] != texts.shape[1]:
        raise ValueError(
            f"embeddings {films.shape} and {texts.shape} are not of {len(pairs.text_of_film)} films and "
            f"{len(pairs.texts)} distinct texts"
        )
    for name, embeddings in (("films", films), ("texts", texts)):
        broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        if len(broken):
            raise ValueError(f"the embeddings of {len(broken)} {name} are not finite, the first is number {broken[0]}")
    film_bar, text_bar = (bar - _ROUNDING for bar in _best_right(films, texts, pairs))
    film_ranks, text_ranks = np.ones(len(films), np.int64), np.ones(len(texts), np.int64)
    rows = max(1, block_elements // len(texts))
    for begin in range(0, len(films), rows):
        block = slice(begin, begin + rows)
        similarities = films[block] @ texts.T
        first, last = np.searchsorted(pairs.films, (begin, begin + rows))
        # Right candidates do not compete with each other.
        similarities[pairs.films[first:last] - begin, pairs.right_texts[first:last]] = -np.inf
        film_ranks[block] += np.count_nonzero(similarities >= film_bar[block, None], axis=1)
        text_ranks += np.count_nonzero(similarities >= text_bar, axis=0)
    return film_ranks, text_ranks


def _best_right(films: np.ndarray, texts: np.ndarray, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """The similarity of the best right candidate of every film [n] and text [t]."""
    film_best, text_best = (np.full(len(embeddings), -np.inf, np.float32) for embeddings in (films, texts))
    rows = max(1, _BLOCK_ELEMENTS // films.shape[1])
    for begin in range(0, len(pairs.films), rows):
        film, text = pairs.films[begin : begin + rows], pairs.right_texts[begin : begin + rows]
        similarity = np.einsum("pd,pd->p", films[film], texts[text])
        np.maximum.at(film_best, film, similarity)
        np.maximum.at(text_best, text, similarity)
    return film_best, text_best


def top_hits(queries: np.ndarray, candidates: np.ndarray, count: int) -> np.ndarray:
    """The `count` candidates nearest to each of a few queries [q, D], best first: indices [q, count]."""
    return np.argsort(-(queries @ candidates.T), axis=1, kind="stable")[:, :count]


def chance_levels(right: np.ndarray, candidates: int) -> dict[str, float]:
    """Expected R@k of a random order, for queries with `right` [q] right candidates each."""
    levels = {}
    for cutoff in CUTOFFS:
        taken = np.arange(min(cutoff, candidates))
        missed = np.clip(candidates - right[:, None] - taken, 0, None) / (candidates - taken)
        levels[str(cutoff)] = float(1 - missed.prod(axis=1).mean())
    return levels


def weighted_medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median [R] of `values` [q] under each row of `weights` [R, q]: that of the values, each as often as it weighs.

    NaN where nothing weighs.
    """
    order = np.argsort(values)
    below = np.cumsum(weights[:, order], axis=1)
    half = below[:, -1:] / 2
    # Half of the weight ends between two values: their mean, as of an even number of values.
    slack = 1e-9 * half
    lower, upper = (np.argmax(below >= half - slack, axis=1), np.argmax(below > half + slack, axis=1))
    medians = (values[order][lower] + values[order][upper]) / 2
    return np.where(half[:, 0] > 0, medians, np.nan)


def judge_ranks(
    film_ranks: np.ndarray, text_ranks: np.ndarray, pairs: Pairs, patients: np.ndarray, resamples: int, seed: int
) -> tuple[Direction, Direction]:
    """R@k, median and mean rank from films to texts and from texts to films, with intervals by patient.

    Patients are sampled as queries; the candidates stay. A text of several films weighs as much as they do in the mean,
    so every distinct text counts once in the whole.
    """
    own = (np.arange(len(film_ranks)), pairs.text_of_film)
    membership = csr_matrix((1 / np.bincount(pairs.text_of_film)[pairs.text_of_film], own))

    def figures(weights: np.ndarray) -> np.ndarray:
        return np.hstack([_figures(film_ranks, weights), _figures(text_ranks, (membership.T @ weights.T).T)])

    estimates = by_patient_intervals(figures, patients, resamples, seed)
    half = len(estimates) // 2
    right = (np.bincount(pairs.films), np.bincount(pairs.right_texts))
    return (
        _direction(estimates[:half], film_ranks, right[0], len(text_ranks)),
        _direction(estimates[half:], text_ranks, right[1], len(film_ranks)),
    )


def _figures(ranks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """R@1, R@5, R@10 and the median rank [R, 4] under each row of `weights` [R, q]."""
    return np.column_stack([*(recalls(ranks, weights, cutoff) for cutoff in CUTOFFS), weighted_medians(ranks, weights)])


def recalls(ranks: np.ndarray, weights: np.ndarray, cutoff: int) -> np.ndarray:
    """Share [R] of the queries with a right answer among the first `cutoff`; NaN where no query weighs."""
    total = weights.sum(axis=1)
    return weights @ (ranks <= cutoff) / np.where(total > 0, total, np.nan)


def _direction(estimates: list[Estimate], ranks: np.ndarray, right: np.ndarray, candidates: int) -> Direction:
    return Direction(
        r_at={str(cutoff): estimate for cutoff, estimate in zip(CUTOFFS, estimates, strict=False)},
        chance=chance_levels(right, candidates),
        median_rank=estimates[-1],
        mean_rank=float(ranks.mean()),
        queries=len(ranks),
        candidates=candidates,
    )

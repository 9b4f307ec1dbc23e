"""AUROC and average precision of many labels under many weightings of their films, which are sorted once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

#: Weights that are read at once (2 MiB of float64, about what a core has to itself), and the least and most rows.
_BLOCK_ELEMENTS, _LEAST_ROWS, _MOST_ROWS = 1 << 18, 8, 64


class _Ranking(NamedTuple):
    """Where the films of one label stand to its cuts, the k distinct scores of its positives, highest first.

    `sums` @ weights [n, R] are, row by row: the positives at each cut [k]; the negatives at it or above, but below the
    cut before [k]; the negatives below all cuts [1]; the negatives at those cuts that have some [t], `tied`.
    """

    sums: csr_matrix
    cuts: int
    tied: np.ndarray


class RankedLabels:
    """The films of several labels, sorted once, to be weighed in many ways: resampled, or those of a group alone.

    AUROC equals `sklearn.metrics.roc_auc_score` with `sample_weight`, ties counted half, and average precision, the
    area under the precision-recall curve, `sklearn.metrics.average_precision_score`: films of equal score are one step.
    Both need only how much weighs at, and between, the scores of positives: recall rises there alone.

    Args:
        scores: [n, labels].
        targets: [n, labels], 1 (or more), 0 (or less), or NaN: not judged, so left out.

    Raises:
        ValueError: the score of a judged film is NaN, which has no place in an order.
    """

    def __init__(self, scores: np.ndarray, targets: np.ndarray):
        self._rankings = [_rank(*columns) for columns in zip(scores.T, targets.T, strict=True)]

    def aurocs(self, weights: np.ndarray) -> np.ndarray:
        """AUROC [R, labels] under each row of `weights` [R, n]; NaN where one of the classes has no weight."""
        return self._weigh(weights, precise=False)[:, 0]

    def both(self, weights: np.ndarray) -> np.ndarray:
        """AUROC and average precision [R, 2, labels] under each row of `weights` [R, n].

        An average precision is NaN where the positives have no weight, and of a label without any negative. Chance is
        the weighted share of positives, not 0.5.
        """
        return self._weigh(weights, precise=True)

    def _weigh(self, weights: np.ndarray, precise: bool) -> np.ndarray:
        # Few resamples at a time, so that what is added up, film after film and label after label, stays in the cache.
        rows = min(_MOST_ROWS, max(_LEAST_ROWS, _BLOCK_ELEMENTS // max(1, weights.shape[1])))
        values = np.full((len(weights), 2, len(self._rankings)), np.nan)
        for begin in range(0, len(weights), rows):
            films = np.ascontiguousarray(weights[begin : begin + rows].T)
            for number, ranking in enumerate(self._rankings):
                if ranking.cuts:
                    values[begin : begin + rows, :, number] = _figures(ranking, films, precise).T
        return values


def _rank(scores: np.ndarray, targets: np.ndarray) -> _Ranking:
    if unknown := int((np.isnan(scores) & ~np.isnan(targets)).sum()):
        raise ValueError(f"the scores of {unknown} films are NaN, which cannot be ranked: try --precision fp32")
    positive, negative = np.flatnonzero(targets > 0), np.flatnonzero(targets <= 0)
    # Without negatives there is nothing to confuse: average precision would be 1, whatever the scores.
    positive = positive[: len(positive) * (len(negative) > 0)]
    cuts, own = np.unique(scores[positive], return_inverse=True)
    count = len(cuts)
    reached = np.searchsorted(cuts, scores[negative], "right") - 1
    at_cut = (reached >= 0) & (cuts[reached] == scores[negative]) if count else np.zeros(len(negative), bool)
    tied, places = np.unique(reached[at_cut], return_inverse=True)
    # From the highest cut downwards; -1, below all of them, comes last.
    rows = [count - 1 - own, 2 * count - 1 - reached, 2 * count + 1 + places]
    films = np.concatenate([positive, negative, negative[at_cut]])
    shape = 2 * count + 1 + len(tied), len(scores)
    sums = csr_matrix((np.ones(len(films)), (np.concatenate(rows), films)), shape=shape)
    return _Ranking(sums, count, count - 1 - tied)


def _figures(ranking: _Ranking, films: np.ndarray, precise: bool) -> np.ndarray:
    """AUROC and, where it is asked for, average precision [2, R] under the weights `films` [n, R]."""
    count = ranking.cuts
    sums = ranking.sums @ films
    found, missed, tied = sums[:count], sums[count : 2 * count], sums[2 * count + 1 :]
    # Negatives at each cut or above.
    np.cumsum(missed, axis=0, out=missed)
    positives, negatives = found.sum(axis=0), missed[-1] + sums[2 * count]
    # A positive wins over the negatives below it, and half of those at its own score.
    losses = np.einsum("kr,kr->r", found, missed) - np.einsum("kr,kr->r", found[ranking.tied], tied) / 2
    pairs, areas = positives * negatives, np.full((2, films.shape[1]), np.nan)
    np.divide(pairs - losses, pairs, out=areas[0], where=pairs > 0)
    if precise:
        all_found = np.cumsum(found, axis=0)
        called = np.add(missed, all_found, out=missed)
        # Where nothing is called nothing is found.
        precision = np.divide(all_found, called, out=all_found, where=called > 0)
        np.divide(np.einsum("kr,kr->r", found, precision), positives, out=areas[1], where=positives > 0)
    return areas

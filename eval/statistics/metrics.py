"""Areas under the ROC and precision-recall curves with bootstrap confidence intervals, for many resamples at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_matrix

#: Resamples that are computed at once, and weights (32 MiB): copies and cumulative sums of all would fill the memory.
_BLOCK, _BLOCK_ELEMENTS = 256, 1 << 22
#: Over fewer patients an interval says nothing: of one it would have no width.
LEAST_PATIENTS = 10


def weighted_auroc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC [R] of `scores` [n] against `targets` [n] (0 or 1) under each row of `weights` [R, n].

    Equal to `sklearn.metrics.roc_auc_score` with `sample_weight`, ties counted half, for all rows in one pass.
    A row in which one of the classes has no weight gives NaN.
    """
    films, positive = np.ascontiguousarray(weights.T), np.flatnonzero(targets > 0)
    negative = np.flatnonzero(targets <= 0)
    # Films are sorted once, by the distinct scores of positives. A positive wins over the negatives below its score and
    # half of those at it: each negative counts from the first score that it does not pass, and from the first above it.
    cuts, own = np.unique(scores[positive], return_inverse=True)
    passed = [np.searchsorted(cuts, scores[negative], side) for side in ("left", "right")]
    beaten = _sums(films, np.tile(negative, 2), np.concatenate(passed), len(cuts) + 1)
    np.cumsum(beaten, axis=0, out=beaten)
    positives = _sums(films, positive, own, len(cuts))
    wins = np.einsum("kr,kr->r", positives, beaten[:-1])
    total = positives.sum(axis=0) * beaten[-1]
    return wins / np.where(total > 0, total, np.nan)


def _sums(films: np.ndarray, rows: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Sums [count, R] of the weights `films` [n, R] of those films, `rows` [m], that share each of `places` [m]."""
    members = csr_matrix((np.ones(len(rows)), (places, rows)), shape=(count, len(films)))
    return members @ films


def auroc(scores: np.ndarray, targets: np.ndarray) -> float:
    """AUROC of `scores` [n] against `targets` [n]; NaN where only one class is present."""
    return float(weighted_auroc(scores, targets, np.ones((1, len(scores))))[0])


def weighted_average_precision(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision [R], the area under the precision-recall curve, with the arguments of `weighted_auroc`.

    Equal to `sklearn.metrics.average_precision_score` with `sample_weight`: films of equal score are one step. A row in
    which the positives have no weight gives NaN. Chance is the (weighted) share of positives, not 0.5.
    """
    films, positive = np.ascontiguousarray(weights.T), np.flatnonzero(targets > 0)
    # Recall rises at the scores of positives alone: films are sorted once, by the lower of them that they reach.
    cuts, own = np.unique(scores[positive], return_inverse=True)
    reached = np.searchsorted(cuts, scores, "right") - 1
    called = np.flatnonzero(reached >= 0)
    found = _sums(films, positive, own, len(cuts))
    # From the highest score downwards.
    all_found, all_called = (
        np.cumsum(sums[::-1], axis=0)[::-1] for sums in (found, _sums(films, called, reached[called], len(cuts)))
    )
    precision = np.divide(all_found, all_called, out=np.zeros_like(found), where=all_called > 0)
    total = found.sum(axis=0)
    return np.einsum("kr,kr->r", found, precision) / np.where(total > 0, total, np.nan)


def label_aurocs(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC [R, labels] of `scores` [n, labels] under each row of `weights` [R, n]; films with target NaN stay out."""
    return _by_label(weighted_auroc, scores, targets, weights)


def label_average_precisions(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision [R, labels], as `label_aurocs`; NaN where one of the classes is missing."""
    # Without negatives it would be 1, whatever the scores.
    both = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
    return np.where(both, _by_label(weighted_average_precision, scores, targets, weights), np.nan)


def _by_label(figure: Callable, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`figure` [R, labels] of the films that are evaluated for each label, in blocks of resamples."""
    rows = min(_BLOCK, max(1, _BLOCK_ELEMENTS // max(1, weights.shape[1])))
    return np.concatenate(
        [_of_block(figure, scores, targets, weights[begin : begin + rows]) for begin in range(0, len(weights), rows)]
    )


def _of_block(figure: Callable, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # Film by film in memory, as the figures read them: once for all labels.
    by_film = np.ascontiguousarray(weights.T)
    columns = []
    for number, films in enumerate(np.isfinite(targets).T):
        own = by_film if films.all() else by_film[films]
        columns.append(figure(scores[films, number], targets[films, number], own.T))
    return np.stack(columns, axis=1)


def macro_means(aurocs: np.ndarray, rare: np.ndarray) -> dict[str, np.ndarray]:
    """Means [R] of `aurocs` [R, labels] over all labels ("macro"), the others and those marked in `rare` [labels].

    The first row is the whole, the others its resamples: a label without both classes in the whole stays out
    everywhere, one without them in a resample stays out of that resample's mean. NaN where no label is left.
    """
    groups = {"macro": np.ones_like(rare), "macro_common": ~rare, "macro_rare": rare}
    return {name: macro_mean(aurocs[:, labels]) for name, labels in groups.items()}


def macro_mean(values: np.ndarray) -> np.ndarray:
    """Mean [R] of `values` [R, labels] as in `macro_means`; NaN where no label is left."""
    values = np.where(np.isnan(values[0]), np.nan, values)
    defined = np.isfinite(values)
    count = defined.sum(axis=1)
    return np.where(defined, values, 0).sum(axis=1) / np.where(count > 0, count, np.nan)


def resample_weights(patients: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Weights [1 + resamples, n]: every film once, then `bootstrap_weights`.

    Of fewer than `LEAST_PATIENTS` patients the resamples weigh nothing, so that no interval is defined.
    """
    weights = np.vstack([np.ones((1, len(patients))), bootstrap_weights(patients, resamples, seed)])
    weights[1:] *= len(np.unique(patients)) >= LEAST_PATIENTS
    return weights


def bootstrap_weights(patients: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Weights [resamples, n]: how often each of n films is sampled when patients are sampled with replacement.

    Films of one patient are not independent: they are sampled together.
    """
    _, index = np.unique(patients, return_inverse=True)
    count = index.max() + 1
    counts = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return counts[:, index].astype(np.float64)

"""Areas under the ROC and precision-recall curves with bootstrap confidence intervals, for many resamples at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Resamples that are computed at once: the cumulative sums of all would fill the memory.
_BLOCK = 100
#: Over fewer patients an interval says nothing: of one it would have no width.
LEAST_PATIENTS = 10


def weighted_auroc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC [R] of `scores` [n] against `targets` [n] (0 or 1) under each row of `weights` [R, n].

    Equal to `sklearn.metrics.roc_auc_score` with `sample_weight`, ties counted half, for all rows in one pass.
    A row in which one of the classes has no weight gives NaN.
    """
    positives, negatives = np.flatnonzero(targets > 0), np.flatnonzero(targets <= 0)
    negatives = negatives[np.argsort(scores[negatives])]
    # Column k: the weight of the k lowest negatives. A positive wins over those below it and half of those equal.
    below = np.zeros((len(weights), len(negatives) + 1))
    np.cumsum(weights[:, negatives], axis=1, out=below[:, 1:])
    lower, upper = (np.searchsorted(scores[negatives], scores[positives], side) for side in ("left", "right"))
    positive = weights[:, positives]
    wins = (positive * (below[:, lower] + below[:, upper])).sum(axis=1) / 2
    total = positive.sum(axis=1) * below[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / np.where(total > 0, total, np.nan)


def auroc(scores: np.ndarray, targets: np.ndarray) -> float:
    """AUROC of `scores` [n] against `targets` [n]; NaN where only one class is present."""
    return float(weighted_auroc(scores, targets, np.ones((1, len(scores))))[0])


def weighted_average_precision(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision [R], the area under the precision-recall curve, with the arguments of `weighted_auroc`.

    Equal to `sklearn.metrics.average_precision_score` with `sample_weight`: films of equal score are one step. A row in
    which the positives have no weight gives NaN. Chance is the (weighted) share of positives, not 0.5.
    """
    order = np.argsort(-scores, kind="stable")
    # The last film of every run of equal scores: only there is a threshold.
    steps = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = np.cumsum(weights[:, order] * (targets[order] > 0), axis=1)[:, steps]
    called = np.cumsum(weights[:, order], axis=1)[:, steps]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(called > 0, found / called, 0.0)
        total = found[:, -1]
        return (np.diff(found, axis=1, prepend=0.0) * precision).sum(axis=1) / np.where(total > 0, total, np.nan)


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
    columns = []
    for number, films in enumerate(np.isfinite(targets).T):
        own, truth = scores[films, number], targets[films, number]
        blocks = np.array_split(weights, max(1, len(weights) // _BLOCK))
        columns.append(np.concatenate([figure(own, truth, block[:, films]) for block in blocks]))
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

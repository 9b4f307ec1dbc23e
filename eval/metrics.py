"""Area under the ROC curve with bootstrap confidence intervals, for many resamples at once."""

from __future__ import annotations

import numpy as np


def weighted_auroc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC [R] of `scores` [n] against `targets` [n] (0 or 1) under each row of `weights` [R, n].

    Equal to `sklearn.metrics.roc_auc_score` with `sample_weight`, ties counted half, for all rows in one pass.
    A row in which one of the classes has no weight gives NaN.
    """
    _, group = np.unique(scores, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    positive = np.add.reduceat((weights * targets)[:, order], starts, axis=1)
    negative = np.add.reduceat((weights * (1 - targets))[:, order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    total = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (positive * (below + negative / 2)).sum(axis=1) / np.where(total > 0, total, np.nan)


def auroc(scores: np.ndarray, targets: np.ndarray) -> float:
    """AUROC of `scores` [n] against `targets` [n]; NaN where only one class is present."""
    return float(weighted_auroc(scores, targets, np.ones((1, len(scores))))[0])


def bootstrap_weights(patients: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Weights [resamples, n]: how often each of n films is drawn when patients are drawn with replacement.

    Films of one patient are not independent: they are drawn together.
    """
    _, index = np.unique(patients, return_inverse=True)
    count = index.max() + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws[:, index].astype(np.float64)


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of `values` [R], NaN values left out (resamples without one of the classes)."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

"""Areas under the ROC curve, and their means over labels."""

from __future__ import annotations

import numpy as np

from eval.statistics.ranked_labels import RankedLabels

#: Over fewer patients an interval says nothing: of one it would have no width.
LEAST_PATIENTS = 10


def weighted_auroc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC [R] of `scores` [n] against `targets` [n] (0 or 1) under each row of `weights` [R, n]."""
    return label_aurocs(scores[:, None], targets[:, None], weights)[:, 0]


def auroc(scores: np.ndarray, targets: np.ndarray) -> float:
    """AUROC of `scores` [n] against `targets` [n]; NaN where only one class is present."""
    return float(weighted_auroc(scores, targets, np.ones((1, len(scores))))[0])


def label_aurocs(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC [R, labels] of `scores` [n, labels] under each row of `weights` [R, n]; films with target NaN stay out.

    As `RankedLabels`, which is to be kept where the same scores are weighed again and again.
    """
    return RankedLabels(scores, targets).aurocs(weights)


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

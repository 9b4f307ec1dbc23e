"""How far a score between 0 and 1 is from a probability."""

from __future__ import annotations

import numpy as np

from eval.records.results import Calibration

#: Bins of equal width, as in arXiv 1706.04599.
BINS = 15


def two_class_softmax(scores: np.ndarray) -> np.ndarray:
    """The softmax of the positive against the negative prompt, 0 to 1, from the difference of their logits.

    It orders films as the difference does. Its level depends on the wording of the prompts and on the temperature the
    model was trained with: it is no calibrated probability.
    """
    return 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -500, 500)))


def reliability_bins(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Mean probability, share of positives and number of films [`BINS`, 3]; NaN means in empty bins.

    `probabilities` [n] are 0 to 1, `targets` [n] 0 or 1.
    """
    number = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    count, said, found = (
        np.bincount(number, weights, BINS) for weights in (np.ones(len(targets)), probabilities, targets)
    )
    filled = np.where(count > 0, count, np.nan)
    return np.stack([said / filled, found / filled, count], axis=1)


def calibration(probabilities: np.ndarray, targets: np.ndarray) -> Calibration:
    """Calibration of `probabilities` [n] (0 to 1) against `targets` [n] (0 or 1, at least one film).

    The calibration error is the binary one: the probability of the finding against how often it is there.
    """
    said, found, count = reliability_bins(probabilities, targets).T
    prevalence = float(targets.mean())
    return Calibration(
        ece=float(np.nansum(count * np.abs(said - found)) / len(targets)),
        brier=float(np.mean((probabilities - targets) ** 2)),
        brier_of_prevalence=prevalence * (1 - prevalence),
        mean_score=float(probabilities.mean()),
        prevalence=prevalence,
    )

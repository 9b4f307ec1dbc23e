"""Turns scores into probabilities, where that earns its place on films held out of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from eval.statistics.significance import by_patient_intervals
from modeling_chexficient.operating_points_chexficient import ScoreCalibration, sigmoid

#: From the stiffest to the most flexible.
METHODS = ("temperature", "platt", "isotonic")
#: Parts of the patients, each of which is held out once.
FOLDS = 5


def fit_calibration(scores: np.ndarray, targets: np.ndarray, method: str) -> ScoreCalibration | None:
    """Fit one of `METHODS` on `scores` [n] and `targets` [n] (0 or 1, both there); its Brier scores are NaN.

    None where higher scores would mean lower probabilities.
    """
    unknown = float("nan")
    if method == "isotonic":
        fitted = IsotonicRegression(out_of_bounds="clip").fit(scores.astype(np.float64), targets)
        knots = {"scores": fitted.X_thresholds_.tolist(), "probabilities": fitted.y_thresholds_.tolist()}
        return ScoreCalibration(method, unknown, unknown, **knots)
    # The optimiser wants numbers near 1.
    spread = max(float(scores.std()), 1e-12)
    model = LogisticRegression(C=np.inf, fit_intercept=method == "platt").fit(scores[:, None] / spread, targets)
    scale, offset = float(model.coef_[0, 0]) / spread, float(model.intercept_[0]) if method == "platt" else 0.0
    return ScoreCalibration(method, unknown, unknown, scale=scale, offset=offset) if scale > 0 else None


def earned_calibration(
    scores: np.ndarray, targets: np.ndarray, patients: np.ndarray, resamples: int, seed: int
) -> ScoreCalibration | None:
    """The calibration that is surely better than the sigmoid of the score; None where none is.

    Each method is fitted on four fifths of the patients and makes probabilities of the others. It is taken where its
    Brier score (mean squared error) on those is below that of the best before it, the sigmoid first, with a 95 %
    interval of the difference, by patient, that lies below 0; and below that of always saying the prevalence. What is
    returned is fitted on all films.

    Args:
        scores, targets, patients: [n]; targets 0 or 1.
        resamples, seed: of the intervals; the seed deals the patients, too.
    """
    before = (sigmoid(scores) - targets) ** 2
    folds = list(GroupKFold(FOLDS, shuffle=True, random_state=seed).split(scores, groups=patients))
    best, chosen = before, None
    constant = float(targets.mean() * (1 - targets.mean()))
    for method in METHODS:
        held_out = _held_out_probabilities(scores, targets, folds, method)
        if held_out is None:
            continue
        errors = (held_out - targets) ** 2
        if errors.mean() < constant and _surely_lower(errors, best, patients, resamples, seed):
            best, chosen = errors, method
    if chosen is None:
        return None
    fitted = fit_calibration(scores, targets, chosen)
    return None if fitted is None else replace(fitted, brier=float(best.mean()), brier_before=float(before.mean()))


def _held_out_probabilities(
    scores: np.ndarray, targets: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]], method: str
) -> np.ndarray | None:
    """Probabilities [n], each by a fit without the film's patient; None where a fold lacks a class or has no fit.

    `folds`: the rows to fit on and those held out, each film held out once.
    """
    probabilities = np.empty(len(scores))
    for fitting, held_out in folds:
        if len(np.unique(targets[fitting])) < 2:
            return None
        fitted = fit_calibration(scores[fitting], targets[fitting], method)
        if fitted is None:
            return None
        probabilities[held_out] = fitted.probability(scores[held_out])
    return probabilities


def _surely_lower(first: np.ndarray, second: np.ndarray, patients: np.ndarray, resamples: int, seed: int) -> bool:
    def difference(weights: np.ndarray) -> np.ndarray:
        return (weights @ (first - second) / weights.sum(axis=1))[:, None]

    (estimate,) = by_patient_intervals(difference, patients, resamples, seed)
    return estimate.high is not None and estimate.high < 0

"""A threshold on a score, chosen on the films of one split and evaluated on those of another."""

from __future__ import annotations

import numpy as np

from eval.records.results import Estimate, Threshold


def parse_rule(rule: str) -> float | None:
    """None for "youden", the wanted sensitivity for "sensitivity=0.95". Raises ValueError for another rule."""
    if rule == "youden":
        return None
    name, _, text = rule.partition("=")
    try:
        wanted = float(text)
    except ValueError:
        wanted = 0.0
    if name != "sensitivity" or not 0 < wanted <= 1:
        raise ValueError(f'threshold rule {rule!r} is unknown: take "youden" or "sensitivity=0.95" (above 0, up to 1)')
    return wanted


def weighted_roc(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds [k] from the highest score down, and sensitivity and specificity of each [R, k] by `weights` [R, n].

    As `sklearn.metrics.roc_curve` with `sample_weight` gives them, for all rows in one pass: films from a threshold on
    are called positive. NaN where one of the classes has no weight.

    Args:
        scores, targets: [n]; targets 0 or 1.
    """
    order = np.argsort(-scores, kind="stable")
    # The last film of every run of equal scores: only there is a threshold.
    steps = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    positive = targets[order] > 0
    shares = []
    for films in (positive, ~positive):
        called = np.cumsum(weights[:, order] * films, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares.append(called[:, steps] / called[:, -1:])
    return scores[order][steps], shares[0], 1 - shares[1]


def choose_step(sensitivity: np.ndarray, specificity: np.ndarray, rule: str) -> np.ndarray:
    """Which threshold of `weighted_roc` is that of `rule`, int [R]; see `choose_threshold`."""
    wanted = parse_rule(rule)
    # Shares of films are rounded numbers: without this, equal differences would differ.
    if wanted is None:
        return np.argmax(np.round(sensitivity + specificity, 12), axis=1)
    return np.argmax(sensitivity >= wanted - 1e-12, axis=1)


def choose_threshold(scores: np.ndarray, targets: np.ndarray, rule: str) -> float | None:
    """The threshold by `rule` on `scores` [n] and `targets` [n] (0 or 1); a film is called positive from there on.

    "youden" is the highest threshold that maximises sensitivity + specificity - 1, "sensitivity=0.95" the highest that
    reaches that sensitivity. None where one class is missing.
    """
    parse_rule(rule)
    if not 0 < targets.sum() < len(targets):
        return None
    thresholds, *shares = weighted_roc(scores, targets, np.ones((1, len(scores))))
    return float(thresholds[choose_step(*shares, rule)[0]])


def threshold_rates(value: float, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sensitivity and specificity [R, 2] of `value` on `scores` [n] and `targets` [n], under `weights` [R, n].

    Films of target NaN stay out; a rate is NaN where its class has no weight.
    """
    called, positive, negative = scores >= value, targets > 0, targets <= 0
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = weights @ (called & positive) / (weights @ positive)
        specificity = weights @ (~called & negative) / (weights @ negative)
    return np.stack([sensitivity, specificity], axis=1)


def judge_threshold(
    value: float, rule: str, chosen_on: str, scores: np.ndarray, targets: np.ndarray, rates: np.ndarray
) -> Threshold:
    """What `value` does on `scores` [n] and `targets` [n], with intervals from `rates` [1 + resamples, 2] of them.

    The intervals cover the choice of the patients evaluated, not that of the patients the threshold was chosen on.
    """
    called = scores >= value
    positive = targets > 0
    sensitivity, specificity = rates.T
    return Threshold(
        rule=rule,
        value=value,
        chosen_on=chosen_on,
        sensitivity=Estimate.of_resamples(sensitivity),
        specificity=Estimate.of_resamples(specificity),
        true_positives=int((called & positive).sum()),
        false_positives=int((called & ~positive).sum()),
        true_negatives=int((~called & ~positive).sum()),
        false_negatives=int((~called & positive).sum()),
    )

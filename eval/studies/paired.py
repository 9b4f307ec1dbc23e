"""Paired bootstrap by patient: is one arm better than another on these patients, or is it these patients' chance?

Both arms are judged on the same resamples, so what makes a resample easy or hard for both cancels. The interval says
nothing about other seeds: those runs were not trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.metrics import label_aurocs, macro_means, resample_weights
from eval.records.results import Estimate
from eval.scores import ZeroShotScores


def resampled_macros(
    arms: dict[str, Sequence[ZeroShotScores]], rare: np.ndarray, resamples: int, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Macro AUROC, mean over the runs of each arm: for each arm and group [1 + resamples], the whole first.

    Args:
        arms: the scores of each arm's runs, all of the same films in the same order.
        rare: which labels are rare, bool [labels].
        resamples: how often patients are drawn with replacement, the same draws for all runs.
        seed: of the draws.
    """
    weights = resample_weights(next(iter(arms.values()))[0].patients, resamples, seed)
    means = {}
    for name, runs in arms.items():
        macros = [macro_means(label_aurocs(run.scores, run.targets, weights), rare) for run in runs]
        means[name] = {group: np.mean([macro[group] for macro in macros], axis=0) for group in macros[0]}
    return means


def paired_differences(arm: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, Estimate]:
    """Arm minus reference for each group, with its 95 % percentile interval; both as `resampled_macros` gives them."""
    return {group: Estimate.of_resamples(arm[group] - reference[group]) for group in arm}

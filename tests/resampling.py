"""Resamples of patients in the plainest way, to compare those of `eval.statistics.significance` with."""

import numpy as np


def bootstrap_weights(patients: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Weights [resamples, n]: how often each of n films is sampled when patients are sampled with replacement."""
    _, index = np.unique(patients, return_inverse=True)
    count = index.max() + 1
    counts = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return counts[:, index].astype(np.float64)

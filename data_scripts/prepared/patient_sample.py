"""A random share of the patients of a split, such as those whose labels are used."""

from __future__ import annotations

import math

import numpy as np


def draw_patients(patients: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Rows of the films of a share of the patients, at least one patient; in order.

    With one seed, a smaller share is part of every larger one.
    """
    names = np.unique(patients)
    # ceil, but not one more where the product is off by rounding.
    count = max(1, math.ceil(share * len(names) - 1e-9))
    chosen = np.random.default_rng(seed).permutation(names)[:count]
    return np.flatnonzero(np.isin(patients, chosen))

"""A random share of the patients of a split, such as those whose labels are used."""

from __future__ import annotations

import math

import numpy as np

from data_scripts.schema import DataError

#: Where no validation split can choose weights or penalties, this share of the training patients does.
VALIDATION_SHARE = 0.2


def draw_patients(patients: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Rows of the films of a share of the patients, at least one patient; in order.

    With one seed, a smaller share is part of every larger one.
    """
    names = np.unique(patients)
    # ceil, but not one more where the product is off by rounding.
    count = max(1, math.ceil(share * len(names) - 1e-9))
    chosen = np.random.default_rng(seed).permutation(names)[:count]
    return np.flatnonzero(np.isin(patients, chosen))


def hold_out(patients: np.ndarray, seed: int) -> np.ndarray:
    """bool [films]: those of `VALIDATION_SHARE` of the patients, which choose in place of a validation split.

    Raises:
        DataError: no other patient is left to learn from.
    """
    chosen = np.zeros(len(patients), dtype=bool)
    chosen[draw_patients(patients, VALIDATION_SHARE, seed)] = True
    if chosen.all():
        raise DataError(
            "there is no validation split to choose by, and all training films are of one patient: add films of "
            "others, with split 'validation'"
        )
    return chosen

"""Shares of films with intervals that also hold of few films, and whether two of them differ."""

from __future__ import annotations

import numpy as np
from scipy.stats import beta

from modeling_chexficient.operating_points_chexficient import Share

_TAIL = 0.025


def share_interval(value: float, resampled: np.ndarray, films: int, patients: int) -> Share:
    """A share of `films` with its 95 % interval, from resamples [R] of its error or of itself (NaN: left out).

    The exact interval of a share of as many independent films as would vary like the resamples, at most `films` (Korn
    and Graubard, Survey Methodology 24(2), 1998). Percentiles of the resamples are too narrow where films are few or
    shares near 1, and have no width where no film is wrong. There, and without resamples, nothing tells how alike the
    films of a patient are, so each patient counts once.

    Args:
        value: 0 to 1.
        resampled: by patient, so films of one patient count for less than as many independent ones.
        films: at least 1.
        patients: of these films, at least 1.
    """
    resampled = resampled[np.isfinite(resampled)]
    spread, of_one_film = float(np.var(resampled)) if len(resampled) else 0.0, value * (1 - value)
    if not len(resampled) or of_one_film == 0:
        count = float(patients)
    else:
        count = float(np.clip(of_one_film / spread, 1, films)) if spread > 0 else float(films)
    return Share(value, *exact_interval(value, count))


def exact_interval(value: float, count: float) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson (Biometrika 26(4), 1934); `count` need not be whole."""
    found = value * count
    low = float(beta.ppf(_TAIL, found, count - found + 1)) if found > 0 else 0.0
    high = float(beta.ppf(1 - _TAIL, found + 1, count - found)) if found < count else 1.0
    return low, high


def difference_interval(first: Share, second: Share) -> tuple[float, float]:
    """The 95 % interval of `first` minus `second`, shares of different films, put together from theirs.

    Method 10 of Newcombe (Statistics in Medicine 17(8), 1998), for any intervals: Zou and Donner (27(10), 2008).
    """
    difference = first.value - second.value
    low = difference - np.hypot(first.value - first.low, second.high - second.value)
    high = difference + np.hypot(first.high - first.value, second.value - second.low)
    return float(low), float(high)


def differ(stated: Share, found: Share) -> bool:
    """Whether two shares of different films differ by more than the chance of both explains, at 95 %.

    A share of few films often lies outside the interval that was stated of all films: it has a chance of its own.
    """
    low, high = difference_interval(stated, found)
    return low > 0 or high < 0

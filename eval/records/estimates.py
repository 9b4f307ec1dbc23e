"""A figure with its confidence interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Estimate:
    """A figure with its 95 % bootstrap interval; None where it is not defined.

    The figure is not where one class is missing, the interval where no resample has a value, as of too few patients.
    """

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of_resamples(cls, values: np.ndarray) -> Estimate:
        """The first of `values` [1 + resamples] is the figure itself, the others its resamples."""
        if np.isnan(values[0]):
            return cls(None, None, None)
        interval = percentile_interval(values[1:])
        return cls(float(values[0]), *(None if np.isnan(bound) else bound for bound in interval))


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of `values` [R], NaN values left out (resamples without one of the classes)."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

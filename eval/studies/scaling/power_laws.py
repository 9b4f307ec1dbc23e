"""Power laws of error over the number of training films: fits, where two cross, and how many films an error needs.

error(n) = a n^-b + c with a >= 0, b in [0, `LARGEST_EXPONENT`] and c >= 0 by least squares of the errors. For a given b
the best a and c have a closed form, so the fit is a search over b alone: a grid, then ever finer ones around its best
point. It has no starting values, always ends at the same result, and fits all resamples of a bootstrap at once. All
functions are pure; a curve is one row of an array [R, sizes], such as the whole and its resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Three parameters cannot be fitted to fewer sizes.
LEAST_SIZES = 3
LARGEST_EXPONENT = 3.0
_GRID, _FINER, _ROUNDS = 121, 21, 4


@dataclass(frozen=True, eq=False)
class PowerLaws:
    """error(n) = amplitude n^-exponent + floor, R of them; each [R].

    Without a fall (amplitude or exponent 0) a curve is its floor alone: its amplitude and exponent are 0 both.
    """

    amplitude: np.ndarray
    exponent: np.ndarray
    floor: np.ndarray

    def __len__(self) -> int:
        return len(self.exponent)

    def errors(self, films: np.ndarray) -> np.ndarray:
        """Errors [R, n] at numbers of films [n]."""
        powers = np.power(np.asarray(films, dtype=float)[None, :], -self.exponent[:, None])
        return self.amplitude[:, None] * powers + self.floor[:, None]

    def films_for(self, errors: np.ndarray) -> np.ndarray:
        """Numbers of films [R] at which errors [R] are reached; infinity where a floor lies at or above it.

        Numbers below 1 mean that any film at all does.
        """
        above = np.asarray(errors, dtype=float) - self.floor
        falls = (self.amplitude > 0) & (self.exponent > 0)
        reached = falls & (above > 0)
        with np.errstate(over="ignore"):
            ratio = np.where(reached, self.amplitude, 1.0) / np.where(reached, above, 1.0)
            films = np.power(ratio, 1 / np.where(falls, self.exponent, 1.0))
        # A flat curve is at its floor from the first film on.
        return np.where(reached, films, np.where(~falls & (above >= 0), 0.0, np.inf))

    def worth_doubling(self, gain: float) -> np.ndarray:
        """Numbers of films [R] up to which twice as many lower the error by at least `gain`; 0 where none do."""
        falls = (self.amplitude > 0) & (self.exponent > 0)
        exponent = np.where(falls, self.exponent, 1.0)
        with np.errstate(over="ignore"):
            films = np.power(self.amplitude * (1 - 2.0**-exponent) / gain, 1 / exponent)
        return np.where(falls, films, 0.0)


def check_sizes(films: np.ndarray, least: int = LEAST_SIZES) -> None:
    """Raise ValueError for fewer than `least` different sizes, or sizes that are not above 0."""
    different = np.unique(films)
    if len(different) < least:
        raise ValueError(
            f"a power law has {LEAST_SIZES} parameters and needs at least {least} sizes, not {len(different)} "
            f"({', '.join(f'{size:,.0f}' for size in different)}): train on more subsets"
        )
    if different[0] <= 0:
        raise ValueError(f"sizes must be above 0, not {different[0]:g}")


def fit_power_laws(films: np.ndarray, errors: np.ndarray) -> PowerLaws:
    """The best power law of each row.

    Args:
        films: [sizes].
        errors: [R, sizes], at least 0.

    Raises:
        ValueError: fewer than three sizes, or an error that is below 0 or not finite.
    """
    films, errors = np.asarray(films, dtype=float), np.atleast_2d(np.asarray(errors, dtype=float))
    check_sizes(films)
    if not np.isfinite(errors).all() or (errors < 0).any():
        raise ValueError("errors must be finite and at least 0")
    # In units of the smallest size, so that large exponents make no tiny numbers.
    unit = films.min()
    scaled = films / unit
    grid = np.broadcast_to(np.linspace(0, LARGEST_EXPONENT, _GRID), (len(errors), _GRID))
    step = LARGEST_EXPONENT / (_GRID - 1)
    for _ in range(_ROUNDS):
        _, _, squares = _best_lines(scaled, errors, grid)
        best = np.take_along_axis(grid, squares.argmin(axis=1)[:, None], axis=1)
        grid = np.clip(best + np.linspace(-step, step, _FINER), 0, LARGEST_EXPONENT)
        step *= 2 / (_FINER - 1)
    amplitude, floor, squares = _best_lines(scaled, errors, grid)
    chosen = squares.argmin(axis=1)[:, None]
    amplitude, floor, exponent = (
        np.take_along_axis(values, chosen, axis=1)[:, 0] for values in (amplitude, floor, grid)
    )
    exponent = np.where(amplitude > 0, exponent, 0.0)
    return PowerLaws(amplitude * unit**exponent, exponent, floor)


def _best_lines(scaled: np.ndarray, errors: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, ...]:
    """Amplitudes, floors and sums of squares [R, k], the best for each of the `exponents` [R, k]."""
    powers = scaled[None, None, :] ** -exponents[..., None]
    centred = powers - powers.mean(axis=2, keepdims=True)
    spread = (centred**2).sum(axis=2)
    together = (centred * errors[:, None, :]).sum(axis=2)
    flat = spread < 1e-12
    amplitude = np.maximum(np.where(flat, 0.0, together / np.where(flat, 1.0, spread)), 0.0)
    floor = errors.mean(axis=1)[:, None] - amplitude * powers.mean(axis=2)
    # Where the best floor would be below 0 it is 0, since the sum of squares is convex.
    through_zero = (powers * errors[:, None, :]).sum(axis=2) / (powers**2).sum(axis=2)
    # With an exponent of 0 the amplitude would be a second floor.
    amplitude = np.where((floor < 0) & ~flat, through_zero, amplitude)
    floor = np.maximum(floor, 0.0)
    squares = ((amplitude[..., None] * powers + floor[..., None] - errors[:, None, :]) ** 2).sum(axis=2)
    return amplitude, floor, squares


def log_slopes(films: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Slopes [R] of the logarithm of the error over that of the films, above 0 where the error falls: the exponent of a
    power law without a floor.

    It says how steep a curve is over the sizes at hand, and is far surer than the exponent beside a floor.
    """
    logs = np.log(np.asarray(films, dtype=float))
    centred = logs - logs.mean()
    return -(np.log(np.atleast_2d(errors)) * centred).sum(axis=1) / (centred**2).sum()


def crossings(first: PowerLaws, second: PowerLaws, low: float, high: float, points: int = 400) -> np.ndarray:
    """The first numbers of films [R] between `low` and `high` at which two curves cross; NaN where they do not."""
    grid = np.geomspace(low, high, points)
    gap = first.errors(grid) - second.errors(grid)
    changes = (gap[:, :-1] * gap[:, 1:] <= 0) & (gap[:, :-1] != gap[:, 1:])
    at = changes.argmax(axis=1)
    rows = np.arange(len(gap))
    before, after = gap[rows, at], gap[rows, at + 1]
    # Where nothing changes its sign, the share is anything, and not used.
    share = np.clip(before / np.where(before == after, 1.0, before - after), 0, 1)
    found = np.exp(np.log(grid[at]) + share * (np.log(grid[at + 1]) - np.log(grid[at])))
    return np.where(changes.any(axis=1), found, np.nan)

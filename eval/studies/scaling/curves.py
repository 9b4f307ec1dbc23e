"""Fits the curves of error over films and compares them, with intervals over patients and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from eval.records.estimates import Estimate
from eval.studies.scaling.claims import judge_claims
from eval.studies.scaling.power_laws import (
    LARGEST_EXPONENT,
    LEAST_SIZES,
    PowerLaws,
    check_sizes,
    crossings,
    fit_power_laws,
    log_slopes,
)
from eval.studies.scaling.results import REACH, WORTH, Curve, Extrapolation, Films, Fit, Pair, Point, Scaling
from eval.studies.scaling.runs import Reference, ScalingRun, reference_of, resampled_errors

#: Sizes that lie less than this share apart are one: patients are not divided, so seeds may differ by a few films.
_SAME_SIZE = 0.05
#: Logarithms need something above 0; no figure here is so sure.
_LEAST_ERROR = 1e-6


def shared_sizes(films: Sequence[int]) -> dict[int, int]:
    """For each number of films the size that it belongs to: the mean of all that lie close together."""
    groups: list[list[int]] = []
    for number in sorted(set(films)):
        if groups and number <= groups[-1][0] * (1 + _SAME_SIZE):
            groups[-1].append(number)
        else:
            groups.append([number])
    return {number: round(sum(group) / len(group)) for group in groups for number in group}


@dataclass(frozen=True, eq=False)
class _Resampled:
    """A curve with its resamples: errors [1 + R, sizes], the whole first."""

    films: np.ndarray
    errors: np.ndarray
    laws: PowerLaws | None


def seed_deviations(errors: Sequence[np.ndarray], resamples: int, generator: np.random.Generator) -> np.ndarray:
    """What other seeds would add to the mean error of every size, [1 + resamples, sizes]; zeros for the whole.

    For a size of n seeds, the mean of n deviations drawn from those of all sizes: few seeds of one size say little of
    their spread, which is taken to be alike at all sizes. They are widened by sqrt(n / (n - 1)), since seeds lie nearer
    to their own mean than to the true one, and as Student's t is wider than the normal distribution. Where no size has
    two seeds, nothing is known of others, and all are zeros.

    Args:
        errors: of each size its seeds [n].
    """
    deviations = [(one - one.mean()) * np.sqrt(len(one) / (len(one) - 1)) for one in errors if len(one) > 1]
    added = np.zeros((1 + resamples, len(errors)))
    if not deviations:
        return added
    pool = np.concatenate(deviations)
    pool *= student.ppf(0.975, len(pool) - len(deviations)) / norm.ppf(0.975)
    for number, one in enumerate(errors):
        added[1:, number] = generator.choice(pool, (resamples, len(one))).mean(axis=1)
    return added


def scale(
    runs: Sequence[ScalingRun],
    benchmarks: Sequence[str] = (),
    references: Sequence[Reference] = (),
    reference_name: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    unequal_compute: bool = False,
    notes: Sequence[str] = (),
    worth: float = WORTH,
) -> Scaling:
    """Fit and compare all arms on every benchmark (default: all that any run was evaluated on).

    Args:
        references: models to beat; see `reference_of`.
        worth: by how much twice the films must lower the error to be worth it.

    Raises:
        ValueError: an arm has fewer than three sizes on a benchmark, a run of a kind lacks one, two runs of an arm are
            of one size and seed, or other films were evaluated; see `reference_of`.
    """
    of_arm = {arm: reference_of([run for run in runs if run.arm == arm], references) for arm in _arms(runs)}
    names = list(benchmarks) or sorted({name for run in runs for name in run.measured})
    curves, pairs, said = [], [], list(notes)
    for name in names:
        of_name = _runs_with(name, runs, asked=bool(benchmarks))
        of_references = [one for one in references if name in one.measured]
        said += [f"{name}: {one.folder} was not evaluated on it." for one in references if one not in of_references]
        models: list[ScalingRun | Reference] = [*of_name, *of_references]
        measured = [one.measured[name] for one in models]
        errors, by_patient = resampled_errors(measured, resamples, seed)
        if not by_patient:
            said.append(f"{name}: nothing is kept of single films, so intervals are over seeds alone.")
        if not by_patient and errors.shape[1] == 1:
            errors = np.repeat(errors, 1 + resamples, axis=1)
        known = {one.folder: row for one, row in zip(models, errors, strict=True)}
        sizes = shared_sizes([run.films for run in of_name])
        resampled: dict[str, _Resampled] = {}
        for arm in _arms(of_name):
            members, reference = [run for run in of_name if run.arm == arm], of_arm[arm]
            to_beat = None if reference is None else known.get(reference.folder)
            curve, resampled[arm] = _curve(name, members, sizes, known, to_beat, seed, worth)
            curves.append(curve)
        pairs += [_pair(name, *two, resampled) for two in combinations(resampled, 2)]
    claims = judge_claims(curves, pairs)
    return Scaling(curves, pairs, claims, reference_name, resamples, seed, unequal_compute, worth, said)


def _arms(runs: Sequence[ScalingRun]) -> list[str]:
    return list(dict.fromkeys(run.arm for run in runs))


def _runs_with(name: str, runs: Sequence[ScalingRun], asked: bool) -> list[ScalingRun]:
    """The runs that were evaluated on a benchmark.

    Raises:
        ValueError: one was not, beside others of its kind, or two are of one arm, size and seed.
    """
    found = [run for run in runs if name in run.measured]
    kinds = {(run.arm, len(run.seed)) for run in found}
    for run in runs:
        if run not in found and ((run.arm, len(run.seed)) in kinds or (asked and not found)):
            others = ", as others were" if found else ""
            raise ValueError(f"{run.folder} was not evaluated on {name}{others}: evaluate it with eval.run")
    first: dict[tuple, ScalingRun] = {}
    for run in found:
        other = first.setdefault((run.arm, run.films, run.seed), run)
        if other is not run:
            raise ValueError(
                f"{other.folder} and {run.folder} are both {run.arm!r} of {run.films:,} films and seed "
                f"{', '.join(map(str, run.seed))}, and would count twice on {name}: leave one out"
            )
    return found


def _estimate(values: np.ndarray) -> Estimate:
    """Value and interval; no interval where nothing was resampled."""
    whole = Estimate.of_resamples(values)
    if whole.value is None or np.ptp(values[1:]) > 0 or len(values) == 1:
        return whole
    return Estimate(whole.value, None, None)


def _curve(
    benchmark: str,
    members: Sequence[ScalingRun],
    sizes: dict[int, int],
    known: dict[Path, np.ndarray],
    reference: np.ndarray | None,
    seed: int,
    worth: float,
) -> tuple[Curve, _Resampled]:
    arm = members[0].arm
    films = np.array(sorted({sizes[run.films] for run in members}))
    try:
        check_sizes(films)
    except ValueError as error:
        raise ValueError(f"{arm} on {benchmark}: {error}") from error
    by_size = [np.stack([known[run.folder] for run in members if sizes[run.films] == size]) for size in films]
    # Other seeds for every arm: the same seed says nothing alike of two objectives.
    generator = np.random.default_rng((seed, *arm.encode()))
    seeds = [errors[:, 0] for errors in by_size]
    errors = np.stack([errors.mean(axis=0) for errors in by_size], axis=1)
    errors = np.maximum(errors + seed_deviations(seeds, len(errors) - 1, generator), _LEAST_ERROR)
    points = [
        Point(
            films=int(size),
            by_seed=seeds[number].tolist(),
            error=_estimate(errors[:, number]),
            below_reference=None if reference is None else _estimate(reference - errors[:, number]),
        )
        for number, size in enumerate(films)
    ]
    slope = _estimate(log_slopes(films, errors))
    state = _state(slope)
    laws = fit_power_laws(films, errors) if state == "falls" else None
    costs = [run.cost for run in members]
    curve = Curve(
        benchmark=benchmark,
        metric=members[0].measured[benchmark].metric,
        arm=arm,
        points=points,
        state=state,
        reason=_REASONS[state],
        slope=slope,
        fit=None if laws is None else _fit(laws, films, errors, worth),
        extrapolation=None if laws is None or len(films) <= LEAST_SIZES else _extrapolation(films, errors),
        reference=None if reference is None else _estimate(reference),
        films_to_beat=None if laws is None or reference is None else _films(laws.films_for(reference), films),
        flops=None if None in costs else float(np.mean([cost for cost in costs if cost is not None])),
    )
    return curve, _Resampled(films, errors, laws)


_REASONS = {
    "falls": None,
    "flat": "the error does not surely change with the films, so nothing is fitted: more films are neither shown to "
    "help nor shown not to",
    "rises": "the error rises with the films, so no power law fits: look at the runs",
}


def _state(slope: Estimate) -> str:
    low = slope.value if slope.low is None else slope.low
    high = slope.value if slope.high is None else slope.high
    # Equal errors differ by rounding.
    return "falls" if low > 1e-9 else "rises" if high < -1e-9 else "flat"


def _fit(laws: PowerLaws, films: np.ndarray, errors: np.ndarray, worth: float) -> Fit:
    grid = np.geomspace(films[0], films[-1] * REACH, 60)
    band = laws.errors(grid)
    off = laws.errors(films)[0] - errors[0]
    twice = laws.errors(np.array([films[-1], 2 * films[-1]]))
    spread = bool(np.ptp(band[1:], axis=0).max() > 0) if len(band) > 1 else False
    low, high = np.quantile(band[1:], [0.025, 0.975], axis=0).tolist() if spread else (None, None)
    return Fit(
        amplitude=_estimate(laws.amplitude),
        exponent=_estimate(laws.exponent),
        floor=_estimate(laws.floor),
        deviation=float(np.sqrt(np.mean(off**2))),
        gain_of_doubling=_estimate(twice[:, 0] - twice[:, 1]),
        worth_doubling=_films(laws.worth_doubling(worth), films),
        at_limit=float(np.mean(laws.exponent > LARGEST_EXPONENT - 1e-3)),
        grid=grid.tolist(),
        error=band[0].tolist(),
        low=low,
        high=high,
    )


def _extrapolation(films: np.ndarray, errors: np.ndarray) -> Extrapolation:
    predicted = fit_power_laws(films[:-1], errors[:, :-1]).errors(films[-1:])[:, 0]
    found = errors[:, -1]
    return Extrapolation(
        int(films[-1]), films[:-1].tolist(), _estimate(predicted), _estimate(found), _estimate(predicted - found)
    )


def _films(values: np.ndarray, films: np.ndarray) -> Films:
    """Numbers [1 + R] of films, infinity for never; NaN is left out of the interval."""
    value, known = values[0], np.sort(values[1:][~np.isnan(values[1:])])
    low = high = None
    if len(known) and known[0] < known[-1]:
        bounds = np.quantile(known, [0.025, 0.975], method="inverted_cdf")
        low, high = (None if np.isinf(bound) else float(bound) for bound in bounds)
    share = float(np.mean(np.isfinite(values[1:]))) if len(values) > 1 else float(np.isfinite(value))
    never = bool(np.isinf(value))
    beyond = bool(np.isfinite(value) and value > REACH * films[-1])
    return Films(float(value) if np.isfinite(value) else None, low, high, share, never, beyond)


def _pair(benchmark: str, first: str, second: str, resampled: dict[str, _Resampled]) -> Pair:
    one, other = resampled[first], resampled[second]
    slope = _estimate(log_slopes(one.films, one.errors) - log_slopes(other.films, other.errors))
    common = sorted({*one.films.tolist()} & {*other.films.tolist()})
    error = None
    if common:
        at = [curve.errors[:, curve.films.tolist().index(common[-1])] for curve in (one, other)]
        error = _estimate(at[0] - at[1])
    exponent = crossing = None
    if one.laws is not None and other.laws is not None:
        exponent = _estimate(one.laws.exponent - other.laws.exponent)
        low, high = max(one.films[0], other.films[0]), REACH * max(one.films[-1], other.films[-1])
        found = crossings(one.laws, other.laws, low, high)
        crossing = None if np.isnan(found[0]) else _films(found, np.maximum(one.films[-1:], other.films[-1:]))
    return Pair(benchmark, first, second, slope, exponent, common[-1] if common else None, error, crossing)

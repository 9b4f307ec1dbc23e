"""What a scaling study found, as typed figures that JSON holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from eval.records.estimates import Estimate

FORMAT_VERSION = 2
#: How far beyond the largest size a crossing is looked for, and a number of films is more than a guess.
REACH = 10.0
#: What twice the films should lower the error by, if nothing else is said; nobody's but our choice.
WORTH = 0.005


@dataclass(frozen=True)
class Point:
    """The runs of one size.

    Args:
        error: mean over seeds, 1 minus the figure; `by_seed` that of each run.
        below_reference: error of the reference minus this one, paired by patient: above 0 this one is better.
    """

    films: int
    by_seed: list[float]
    error: Estimate
    below_reference: Estimate | None


@dataclass(frozen=True)
class Fit:
    """error(n) = amplitude n^-exponent + floor.

    Args:
        deviation: root of the mean square of what the curve is off at the sizes.
        gain_of_doubling: by how much twice the films of the largest size would lower its error.
        worth_doubling: films up to which twice as many lower the error by `Scaling.worth` at least; 0: none do.
        at_limit: share of the resamples whose exponent is the largest allowed: they fall at once and are flat after.
        grid, low, high: films, and the band of the curve at them (95 %); for pictures.
    """

    amplitude: Estimate
    exponent: Estimate
    floor: Estimate
    deviation: float
    gain_of_doubling: Estimate
    worth_doubling: Films
    at_limit: float
    grid: list[float]
    error: list[float]
    low: list[float] | None
    high: list[float] | None


@dataclass(frozen=True)
class Extrapolation:
    """The largest size held out: predicted from the others, and found; `difference` is predicted minus found."""

    films: int
    fitted_on: list[int]
    predicted: Estimate
    found: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Films:
    """A number of films with its 95 % interval.

    None is more than any number, in `value` as in the bounds (where both are None, there is no interval): `never` says
    so of the curve itself. `share` is that of the resamples that come to any number. `beyond`: more than `REACH` times
    the largest size, so a guess.
    """

    value: float | None
    low: float | None
    high: float | None
    share: float
    never: bool
    beyond: bool


@dataclass(frozen=True)
class Curve:
    """The runs of one arm on one benchmark.

    Args:
        state: "falls", "flat" or "rises" with the films: whether the interval of `slope` lies above, around or below 0.
        slope: of a power law without a floor (see `log_slopes`).
        fit: None where the curve does not fall; `reason` says so.
        extrapolation: None with fewer than four sizes.
        reference: error of the model that this arm is to beat; None without one, or where it was not evaluated.
        films_to_beat: films from which on the fitted curve is better than the reference.
        flops: mean over all runs; None where not counted.
    """

    benchmark: str
    metric: str
    arm: str
    points: list[Point]
    state: str
    reason: str | None
    slope: Estimate
    fit: Fit | None
    extrapolation: Extrapolation | None
    reference: Estimate | None
    films_to_beat: Films | None
    flops: float | None


@dataclass(frozen=True)
class Pair:
    """Two arms on one benchmark, `first` minus `second`.

    Args:
        slope: difference of the slopes; above 0 the first one scales better.
        exponent: difference of the exponents beside a floor; None where a curve has no fit.
        error: difference of the errors at the largest size that both have, `films`; below 0 the first is better.
        crossing: where the fitted curves cross; None where one has no fit or they do not.
    """

    benchmark: str
    first: str
    second: str
    slope: Estimate
    exponent: Estimate | None
    films: int | None
    error: Estimate | None
    crossing: Films | None


@dataclass(frozen=True)
class Claim:
    """A published claim on one benchmark.

    Args:
        claim: key of `eval.studies.scaling.claims.CLAIMS`.
        arms: that it is about.
        figure: what `estimate` is; above 0 it speaks for the claim.
        holds: True where the interval lies above 0, False below it, None around it or without one.
    """

    claim: str
    benchmark: str
    arms: str
    figure: str
    estimate: Estimate
    holds: bool | None


@dataclass(frozen=True)
class Scaling:
    """All curves and pairs of a study, and what they say of published claims; `reference` names the models to beat.

    `worth`: by how much twice the films must lower the error to be worth it (the reader's choice).
    """

    curves: list[Curve]
    pairs: list[Pair]
    claims: list[Claim]
    reference: str | None
    resamples: int
    seed: int
    unequal_compute: bool
    worth: float = WORTH
    notes: list[str] = field(default_factory=list)
    interval: str = (
        "95 % percentile interval of a bootstrap over patients (the same resamples for all models) and over seeds, "
        "whose spread is taken to be alike at all sizes of an arm"
    )
    format_version: int = FORMAT_VERSION

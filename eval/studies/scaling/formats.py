"""Figures of a scaling study as words."""

from __future__ import annotations

from eval.records.estimates import Estimate
from eval.studies.scaling.results import Films


def value_text(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def estimate_text(estimate: Estimate, sign: bool = False, places: int = 3) -> str:
    if estimate.value is None:
        return "not defined"
    form = f"{'+' if sign else ''}.{places}f"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:{form}} [no interval]"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def films_text(films: Films, least: str = "any number") -> str:
    """A number of films with two figures, since it is no surer than that; `least` is what less than one film means."""
    value = "never, by the fit" if films.value is None else _round(films.value, least)
    if films.beyond:
        value = f"about {value}, far beyond the sizes"
    if films.low is None and films.high is None:
        return value if films.share in (0, 1) else f"{value} (in {films.share:.0%} of the resamples at all)"
    low, high = ("more than any" if bound is None else _round(bound, least) for bound in (films.low, films.high))
    return f"{value} [{low}, {high}]"


def _round(films: float, least: str) -> str:
    return least if films < 1 else f"{float(f'{films:.2g}'):,.0f}"

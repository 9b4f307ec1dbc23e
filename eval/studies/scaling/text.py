"""A scaling study as Markdown, and as a few lines for the card of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from eval.records.estimates import Estimate
from eval.studies.scaling.claims import CLAIMS
from eval.studies.scaling.formats import estimate_text, films_text, value_text
from eval.studies.scaling.recommendation import by_benchmark, recommend, which_to_continue
from eval.studies.scaling.results import REACH, Claim, Curve, Pair, Scaling


def format_markdown(scaling: Scaling) -> str:
    """What to do; three tables for each benchmark (sizes, fits, pairs), one of claims, how to read them, a few
    lines for a card.
    """
    parts = ["## Which one to continue, and how many more films", "", *(f"- {line}" for line in recommend(scaling)), ""]
    for name, curves in by_benchmark(scaling).items():
        parts += [f"## {name}: error = 1 - {curves[0].metric}", "", *_sizes(curves, scaling), ""]
        parts += [*_fits(curves, scaling), ""]
        pairs = [pair for pair in scaling.pairs if pair.benchmark == name]
        parts += [*_pairs(pairs), ""] if pairs else []
    parts += _claims(scaling.claims)
    compute = "equally many passes, so larger sizes cost more" if scaling.unequal_compute else "equal compute"
    parts += [
        f"Runs of one arm: {compute}. Intervals: {scaling.interval}; {scaling.resamples:,} resamples. Slope: how "
        "steep the curve is over these sizes, as the exponent of a power law without a floor. Fit: error(n) = a n^-b + "
        "c with a, b and c at least 0; b and c trade off against each other, so with few sizes both are unsure where "
        "the curve itself is not.",
        *scaling.notes,
        "",
        "For a card:",
        "",
        card_text(scaling),
    ]
    return "\n".join(parts)


def card_text(scaling: Scaling) -> str:
    """What the study says in a few lines; a reader of a card has not seen the tables.

    Which arm to continue, a line for each benchmark, one for the published claims, and how far all this holds.
    """
    lines = [which_to_continue(scaling), *map(_figures, by_benchmark(scaling).values()), _verdicts(scaling.claims)]
    compute = "equally many passes" if scaling.unequal_compute else "equal compute"
    lines.append(
        f"All at {compute} for all sizes, with 95 % intervals over patients and seeds; the figures hold for these "
        "films, this start and this setting."
    )
    return "\n".join(f"- {line}" for line in lines if line)


_CHANGES = {"falls": "more films surely help", "flat": "no sure change", "rises": "more films surely harm"}


def _figures(curves: Sequence[Curve]) -> str:
    """The figure of each arm with all films and with the fewest."""
    said = []
    for curve in curves:
        first, last = curve.points[0], curve.points[-1]
        said.append(
            f"{curve.arm} {estimate_text(_figure(last.error))} with {last.films:,} films, "
            f"{value_text(_figure(first.error).value)} with {first.films:,} ({_CHANGES[curve.state]})"
        )
    return f"{curves[0].benchmark}, {curves[0].metric}: {'; '.join(said)}."


def _figure(error: Estimate) -> Estimate:
    return Estimate(*(None if value is None else 1 - value for value in (error.value, error.high, error.low)))


def _sizes(curves: Sequence[Curve], scaling: Scaling) -> list[str]:
    lines = ["| arm | films | seeds | error | below the reference |", "|---|---:|---:|---|---|"]
    for curve in curves:
        for point in curve.points:
            below = "-" if point.below_reference is None else estimate_text(point.below_reference, sign=True)
            lines.append(_row(curve.arm, f"{point.films:,}", len(point.by_seed), estimate_text(point.error), below))
        if curve.reference is not None:
            lines.append(_row(f"{curve.arm}: {scaling.reference}", "-", "-", estimate_text(curve.reference), "-"))
    return lines


def _fits(curves: Sequence[Curve], scaling: Scaling) -> list[str]:
    lines = [
        "| arm | slope | b | c | a | off at the sizes | twice the films lower it by | largest size, predicted minus "
        f"found | films to beat {scaling.reference or 'the reference'} |",
        "|---|---|---|---|---:|---:|---|---|---|",
    ]
    for curve in curves:
        fit, held = curve.fit, curve.extrapolation
        cells: list = [curve.arm, estimate_text(curve.slope)]
        if fit is None:
            lines.append(_row(*cells, f"{curve.state}: {curve.reason}", *["-"] * 6))
            continue
        limit = f" (at its limit in {fit.at_limit:.0%} of the resamples)" if fit.at_limit > 0.025 else ""
        cells += [f"{estimate_text(fit.exponent)}{limit}", estimate_text(fit.floor), f"{fit.amplitude.value:.3g}"]
        cells += [f"{fit.deviation:.4f}", estimate_text(fit.gain_of_doubling, places=4)]
        cells.append("needs four sizes" if held is None else estimate_text(held.difference, sign=True, places=4))
        lines.append(_row(*cells, "-" if curve.films_to_beat is None else films_text(curve.films_to_beat)))
    return lines


def _pairs(pairs: Sequence[Pair]) -> list[str]:
    lines = [
        "| first minus second | slope | exponent b | error at the largest common size | curves cross at |",
        "|---|---|---|---|---|",
    ]
    for pair in pairs:
        exponent = "not fitted" if pair.exponent is None else estimate_text(pair.exponent, sign=True)
        error = "-" if pair.error is None else f"{estimate_text(pair.error, sign=True)} at {pair.films:,}"
        crossing = f"not within {REACH:g} times the sizes" if pair.crossing is None else films_text(pair.crossing)
        crossing = "-" if pair.exponent is None else crossing
        lines.append(
            _row(f"{pair.first} - {pair.second}", estimate_text(pair.slope, sign=True), exponent, error, crossing)
        )
    return lines


def _claims(claims: Sequence[Claim]) -> list[str]:
    if not claims:
        return []
    lines = ["## Published claims (arXiv 2509.12818): do they hold here?", ""]
    lines += ["| claim | benchmark | arms | figure, above 0 if it holds | | holds |", "|---|---|---|---|---|---|"]
    for claim in claims:
        estimate = estimate_text(claim.estimate, sign=True)
        lines.append(
            _row(CLAIMS[claim.claim], claim.benchmark, claim.arms, claim.figure, estimate, _VERDICTS[claim.holds])
        )
    return [*lines, ""]


_VERDICTS = {True: "yes", False: "no: the opposite", None: "not decided"}
_CASES = {True: "holds in", False: "the opposite in", None: "not decided in"}


def _verdicts(claims: Sequence[Claim]) -> str | None:
    """Of each claim, in how many cases it holds, the opposite does, or neither is sure."""
    said = []
    for key, words in CLAIMS.items():
        counts = Counter(claim.holds for claim in claims if claim.claim == key)
        if counts:
            cases = [f"{word} {counts[verdict]}" for verdict, word in _CASES.items() if counts[verdict]]
            said.append(f"{words}: {', '.join(cases)} of {counts.total()}")
    return f"Published claims (arXiv 2509.12818): {'; '.join(said)}." if said else None


def _row(*cells) -> str:
    return f"| {' | '.join(map(str, cells))} |"

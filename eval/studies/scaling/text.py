"""A scaling study as Markdown, and as a paragraph for the card of a model."""

from __future__ import annotations

from collections.abc import Sequence

from eval.studies.scaling.claims import CLAIMS
from eval.studies.scaling.formats import estimate_text, films_text, interval_text, value_text
from eval.studies.scaling.recommendation import recommend
from eval.studies.scaling.results import REACH, Claim, Curve, Pair, Scaling


def format_markdown(scaling: Scaling) -> str:
    """What to do; three tables for each benchmark (sizes, fits, pairs), one of claims, how to read them, a card's
    paragraph.
    """
    parts = ["## Which one to continue, and how many more films", "", *(f"- {line}" for line in recommend(scaling)), ""]
    for name in dict.fromkeys(curve.benchmark for curve in scaling.curves):
        curves = [curve for curve in scaling.curves if curve.benchmark == name]
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
        card_paragraph(scaling),
    ]
    return "\n".join(parts)


def card_paragraph(scaling: Scaling) -> str:
    """What the study says in plain sentences; a reader of a card has not seen the tables."""
    sentences = [_curve_sentence(curve, scaling.reference) for curve in scaling.curves]
    sentences += [_pair_sentence(pair) for pair in scaling.pairs]
    sentences += _claim_sentences(scaling.claims)
    compute = "equally many passes" if scaling.unequal_compute else "equal compute"
    sentences.append(
        f"All at {compute} for all sizes, with 95 % intervals over patients and seeds; the curves hold for these "
        "films, this start and this setting."
    )
    return " ".join(sentences)


def _curve_sentence(curve: Curve, reference: str | None) -> str:
    first, last = curve.points[0], curve.points[-1]
    figure = f"{curve.metric} {value_text(1 - last.error.value)}"
    where = f"On {curve.benchmark}, {curve.arm}: {figure} with {last.films:,} films"
    change = f"({value_text(1 - first.error.value)} with {first.films:,})"
    if curve.fit is None:
        return f"{where} {change}; {curve.reason}."
    fit = curve.fit
    text = (
        f"{where} {change}; the error follows {fit.amplitude.value:.3g} n^-{fit.exponent.value:.2f} + "
        f"{fit.floor.value:.3f} (exponent {interval_text(fit.exponent, 2)}), and twice the films would lower it by "
        f"{estimate_text(fit.gain_of_doubling)}"
    )
    held = curve.extrapolation
    if held is not None:
        text += (
            f"; fitted on the sizes up to {held.fitted_on[-1]:,}, the error at {held.films:,} is predicted as "
            f"{value_text(held.predicted.value)} and was {value_text(held.found.value)} "
            f"(off by {estimate_text(held.difference, sign=True)})"
        )
    if curve.films_to_beat is not None:
        text += f"; films needed to beat {reference}: {films_text(curve.films_to_beat)}"
    return f"{text}."


def _pair_sentence(pair: Pair) -> str:
    low, high = pair.slope.low, pair.slope.high
    text = f"On {pair.benchmark}, "
    if pair.exponent is None:
        # One of them does not fall: it does not scale at all.
        return f"{text}the slopes of {pair.first} and {pair.second} differ by {estimate_text(pair.slope, sign=True)}."
    if low is None or high is None or low <= 0 <= high:
        text += f"neither {pair.first} nor {pair.second} surely scales better (slopes differ by "
    else:
        better, worse = (pair.first, pair.second) if low > 0 else (pair.second, pair.first)
        text += f"{better} scales better than {worse} (slopes of {pair.first} and {pair.second} differ by "
    text += f"{estimate_text(pair.slope, sign=True)})"
    if pair.crossing is not None:
        text += f"; their curves cross at {films_text(pair.crossing)} films"
    return f"{text}."


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


def _claim_sentences(claims: Sequence[Claim]) -> list[str]:
    """A sentence for each claim: where it holds, where the opposite does, where neither is sure."""
    sentences = []
    for key, words in CLAIMS.items():
        of_claim = [claim for claim in claims if claim.claim == key]
        said = []
        for verdict, word in {True: "holds", False: "is contradicted", None: "is not decided"}.items():
            found = [claim for claim in of_claim if claim.holds is verdict]
            listed = "; ".join(
                f"{claim.benchmark}, {claim.arms}, {claim.figure}: {estimate_text(claim.estimate, sign=True)}"
                for claim in found
            )
            said += [f"{word} in {len(found)} of {len(of_claim)} ({listed})"] if found else []
        if said:
            sentences.append(f"That {words} (arXiv 2509.12818): {', '.join(said)}.")
    return sentences


def _row(*cells) -> str:
    return f"| {' | '.join(map(str, cells))} |"

"""What a study says to do: which kind of encoder to continue, and what more films would bring. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from eval.studies.scaling.claims import holds
from eval.studies.scaling.formats import estimate_text, films_text
from eval.studies.scaling.results import Curve, Scaling


def recommend(scaling: Scaling) -> list[str]:
    """Sentences: which arm to continue over all benchmarks, then what each benchmark says, then how far to trust it."""
    which = which_to_continue(scaling)
    sentences = [which] if which else []
    for curves in by_benchmark(scaling).values():
        sentences += [_of_arm(curve, scaling) for curve in curves]
    if all(len(point.by_seed) == 1 for curve in scaling.curves for point in curve.points):
        sentences.append("Every size was trained with one seed: no interval here knows what another seed would change.")
    if not any(_says_something(curve) for curve in scaling.curves):
        sentences.append(
            "No curve surely falls and no arm is surely better than what it started from: with these films, "
            "patients and steps the study decides nothing."
        )
    return sentences


def by_benchmark(scaling: Scaling) -> dict[str, list[Curve]]:
    curves: dict[str, list[Curve]] = {}
    for curve in scaling.curves:
        curves.setdefault(curve.benchmark, []).append(curve)
    return curves


def best_arms(scaling: Scaling, curves: Sequence[Curve]) -> list[str]:
    """The arms that none of the others surely beats at the largest size that both have, the lowest error first."""
    beaten = set()
    for pair in scaling.pairs:
        if pair.benchmark == curves[0].benchmark and pair.error is not None:
            first_is_worse = holds(pair.error)
            if first_is_worse is not None:
                beaten.add(pair.first if first_is_worse else pair.second)
    standing = [curve for curve in curves if curve.arm not in beaten]
    return [curve.arm for curve in sorted(standing, key=lambda curve: curve.points[-1].error.value or 0.0)]


def which_to_continue(scaling: Scaling) -> str | None:
    """The arm to continue, over all benchmarks; None where none has several."""
    several = {name: curves for name, curves in by_benchmark(scaling).items() if len(curves) > 1}
    if not several:
        return None
    standing = {name: best_arms(scaling, curves) for name, curves in several.items()}
    # Where an arm is surely beaten, the benchmark says something.
    decided = {name: arms for name, arms in standing.items() if len(arms) < len(several[name])}
    open_ones = [name for name in standing if len(standing[name]) > 1]
    undecided = f" On {', '.join(open_ones)} no arm is surely the best." if open_ones else ""
    if not decided:
        costs = {curve.arm: curve.flops for curve in scaling.curves}
        told = "; ".join(f"{arm}: {flops / 1e15:,.3g} PFLOP a run" for arm, flops in costs.items() if flops)
        return f"Which to continue is not decided:{undecided} What they cost: {told or 'was not counted'}."
    # What is best for one task may be the worst for another.
    unbeaten = [arm for arm in next(iter(standing.values())) if all(arm in arms for arms in standing.values())]
    if len(unbeaten) == 1:
        sure = [name for name, arms in standing.items() if arms == unbeaten]
        why = f"surely the best on {', '.join(sure)}" if sure else "the only one that nothing surely beats"
        return f"Continue {unbeaten[0]}: {why} with all films.{undecided}"
    alike = [name for name in standing if name not in decided]
    rest = f" On {', '.join(alike)} no arm is surely worse than another." if alike else ""
    if unbeaten:
        beaten = f"surely better than the others on {', '.join(decided)}"
        return f"Continue {' or '.join(unbeaten)}, which are not told apart: {beaten} with all films.{rest}"
    groups: dict[str, list[str]] = {}
    for name, arms in decided.items():
        groups.setdefault(" or ".join(arms), []).append(name)
    listed = "; ".join(f"{arms} for {', '.join(names)}" for arms, names in groups.items())
    return f"It depends on the task, by what nothing surely beats with all films: {listed}.{rest}"


def _of_arm(curve: Curve, scaling: Scaling) -> str:
    last = curve.points[-1]
    text = f"{curve.benchmark}, {curve.arm}: error {estimate_text(last.error)} with all {last.films:,} films"
    if last.below_reference is not None:
        verdict = {True: "surely better than", False: "surely worse than", None: "not surely apart from"}
        text += f", {verdict[holds(last.below_reference)]} {scaling.reference} "
        text += f"({estimate_text(last.below_reference, sign=True)})"
    if curve.fit is None:
        return f"{text}. More films: {curve.reason}."
    gain, worth = curve.fit.gain_of_doubling, scaling.worth
    text += f". Twice the films ({2 * last.films:,}) would lower it by {estimate_text(gain, places=4)}: "
    low, high = gain.low, gain.high
    if low is not None and low >= worth:
        text += f"worth it, at {worth:g} or more"
    elif high is not None and high < worth:
        text += f"not worth it, at less than {worth:g}"
    else:
        text += f"whether that is worth {worth:g} is not sure"
    text += f". Doubling brings {worth:g} up to {films_text(curve.fit.worth_doubling, 'no')} films"
    held = curve.extrapolation
    if held is None:
        return f"{text}. With fewer than four sizes nothing tells how well the curve predicts."
    off = estimate_text(held.difference, sign=True, places=4)
    return f"{text}. How well the curve predicts: the {held.films:,} films held out, predicted minus found {off}."


def _says_something(curve: Curve) -> bool:
    below = curve.points[-1].below_reference
    return curve.state != "flat" or (below is not None and holds(below) is not None)

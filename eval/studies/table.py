"""Arms side by side as typed figures, JSON and Markdown: what each cost, what it gave, how far it is from another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np

from eval.records.results import Estimate
from eval.studies.paired import paired_differences, resampled_macros
from eval.studies.runs import GROUPS, Run, values_of

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Spread:
    """A figure of every run of an arm, in the order of its seeds."""

    values: list[float]
    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Arm:
    """One arm; costs are means over its runs.

    `flops` has "trained", "scored" and "total", None where a run counted none; `relative_flops` is the total as a share
    of the reference's. `auroc` and `difference` (None for the reference) have the groups of `eval.studies.runs.GROUPS`.
    """

    name: str
    seeds: list[int]
    keep_share: float
    pairs_trained: float
    pairs_scored: float
    flops: dict[str, float] | None
    relative_flops: float | None
    auroc: dict[str, Spread | None]
    difference: dict[str, Estimate] | None


@dataclass(frozen=True)
class Comparison:
    """All arms, the reference first. `interval` says what the intervals of the differences cover."""

    benchmark: str
    benchmark_version: int
    prompts: str
    rare_below: float
    dataset_fingerprint: str
    films: int
    patients: int
    limited: bool
    resamples: int
    seed: int
    reference: str
    arms: list[Arm]
    interval: str = "95 % percentile interval of a paired bootstrap over patients; seeds are not resampled"
    format_version: int = FORMAT_VERSION

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n")


def compare_arms(arms: dict[str, list[Run]], reference: str, resamples: int, seed: int) -> Comparison:
    """Summarise `arms` (of `group_by_arm`) and set every arm against the arm `reference`."""
    some = arms[reference][0].result
    rare = np.array([label.rare for label in some.labels])
    scores = {name: [run.scores for run in runs] for name, runs in arms.items()}
    macros = resampled_macros(scores, rare, resamples, seed)
    names = [reference, *(name for name in arms if name != reference)]
    differences = {name: paired_differences(macros[name], macros[reference]) for name in names[1:]}
    base = _mean_flops(arms[reference])
    return Comparison(
        benchmark=some.benchmark,
        benchmark_version=some.benchmark_version,
        prompts=some.prompts,
        rare_below=some.rare_below,
        dataset_fingerprint=some.provenance.dataset_fingerprint,
        films=some.provenance.films,
        patients=some.provenance.patients,
        limited=some.provenance.limited,
        resamples=resamples,
        seed=seed,
        reference=reference,
        arms=[_summarise(name, arms[name], base, differences.get(name)) for name in names],
    )


def _summarise(
    name: str, runs: Sequence[Run], base: dict[str, float] | None, difference: dict[str, Estimate] | None
) -> Arm:
    flops = _mean_flops(runs)
    return Arm(
        name=name,
        seeds=[run.seed for run in runs],
        keep_share=mean(run.done["keep_share_reached"] for run in runs),
        pairs_trained=mean(run.done["pairs_trained"] for run in runs),
        pairs_scored=mean(run.done["pairs_scored"] for run in runs),
        flops=flops,
        relative_flops=flops["total"] / base["total"] if flops and base else None,
        auroc={group: _spread(values_of(runs, group)) for group in GROUPS},
        difference=difference,
    )


def _mean_flops(runs: Sequence[Run]) -> dict[str, float] | None:
    counted = [run.flops for run in runs]
    if None in counted:
        return None
    return {name: mean(flops[name] for flops in counted) for name in ("trained", "scored", "total")}


def _spread(values: list[float]) -> Spread | None:
    return Spread(values, mean(values), min(values), max(values)) if values else None


def flops_unit(values: Sequence[float]) -> tuple[str, float]:
    """The unit in which the largest of `values` reads best, and its size."""
    units = [("ZFLOPs", 1e21), ("EFLOPs", 1e18), ("PFLOPs", 1e15), ("TFLOPs", 1e12), ("GFLOPs", 1e9)]
    return next((unit for unit in units if max(values, default=0) >= unit[1]), ("FLOPs", 1.0))


def format_markdown(comparison: Comparison) -> str:
    """Two tables with a row for each arm, what it cost and what it gave, and how to read them."""
    return "\n".join([_format_heading(comparison), "", *_format_costs(comparison), "", *_format_aurocs(comparison)])


def _format_heading(comparison: Comparison) -> str:
    one = comparison
    partial = f"PARTIAL: only the first {one.films:,} films were judged.\n\n" if one.limited else ""
    return (
        f"{partial}Zero-shot AUROC on {one.films:,} held-out films ({one.patients:,} patients), prompts "
        f"`{one.prompts}`. Rare: below {one.rare_below:.0%} of training films.\n\n"
        "AUROC: mean over seeds [lowest, highest seed]. Difference: mean over seeds, minus that of "
        f"`{one.reference}`, with the 95 % interval of a paired bootstrap ({one.resamples:,} resamples). The interval "
        "covers the choice of patients, not the choice of seeds: a difference within the spread of the seeds may be "
        "luck even where its interval leaves out 0."
    )


def _format_costs(comparison: Comparison) -> list[str]:
    unit, size = flops_unit([arm.flops["total"] for arm in comparison.arms if arm.flops])
    lines = [
        f"| arm | seeds | kept | pairs trained | pairs scored | {unit} | FLOPs, relative |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for arm in comparison.arms:
        cells = [arm.name, ", ".join(map(str, arm.seeds)), f"{arm.keep_share:.1%}"]
        cells += [f"{arm.pairs_trained:,.0f}", f"{arm.pairs_scored:,.0f}"]
        flops = f"{arm.flops['total'] / size:#.3g}".rstrip(".") if arm.flops else "not counted"
        cells += [flops, _format_relative(arm)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _format_relative(arm: Arm) -> str:
    return "-" if arm.relative_flops is None else f"{arm.relative_flops:.1%}"


def _format_aurocs(comparison: Comparison) -> list[str]:
    titles = " | ".join(f"{title} | difference" for title in GROUPS.values())
    lines = [f"| arm | FLOPs, relative | {titles} |", "|---|---:|" + "---|---|" * len(GROUPS)]
    for arm in comparison.arms:
        cells = [arm.name, _format_relative(arm)]
        for group in GROUPS:
            cells += [_format_spread(arm.auroc[group]), _format_difference(arm.difference, group)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _format_spread(spread: Spread | None) -> str:
    return f"{spread.mean:.3f} [{spread.lowest:.3f}, {spread.highest:.3f}]" if spread else "not defined"


def _format_difference(difference: dict[str, Estimate] | None, group: str) -> str:
    if difference is None:
        return "reference"
    one = difference[group]
    return "not defined" if one.value is None else f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"

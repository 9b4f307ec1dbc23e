"""Cells as Markdown: what each cost, what it gave, how far it is from the reference, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence

from eval.records.runs import PretrainRun
from eval.studies.cells import GROUPS, Cell, Comparison, Figure
from eval.tables import format_difference

#: More labels than these are counted in the heading, not named.
_MOST_NAMES = 8


def flops_unit(values: Sequence[float]) -> tuple[str, float]:
    """The unit in which the largest of `values` reads best, and its size."""
    units = [("ZFLOPs", 1e21), ("EFLOPs", 1e18), ("PFLOPs", 1e15), ("TFLOPs", 1e12), ("GFLOPs", 1e9)]
    return next((unit for unit in units if max(values, default=0) >= unit[1]), ("FLOPs", 1.0))


def format_markdown(comparison: Comparison) -> str:
    """Of pretrainings two tables with a row for each arm (costs, figures), of adaptations one of arms and shares."""
    if comparison.kind == PretrainRun.kind:
        parts = [_pretraining_heading(comparison), "", *_costs(comparison), "", *_pretraining_figures(comparison)]
    else:
        parts = [_adaptation_heading(comparison), "", *_adaptation_table(comparison), *_kept_starts(comparison)]
    partial = f"PARTIAL: only the first {comparison.films:,} films were evaluated.\n\n" if comparison.limited else ""
    return partial + "\n".join(parts)


def _pretraining_heading(comparison: Comparison) -> str:
    at_budget = " at the same budget" if any(cell.level is not None for cell in comparison.cells) else ""
    metric = comparison.metric[0].upper() + comparison.metric[1:]
    prompts = "" if comparison.prompts is None else f", prompts `{comparison.prompts}`"
    rare = ""
    if comparison.rare_below is not None:
        films = "evaluated" if comparison.prompts is None else "training"
        rare = f" Rare: below {comparison.rare_below:.0%} of {films} films."
    return (
        f"{metric} on {comparison.films:,} held-out films ({comparison.patients:,} patients){prompts}.{rare}\n\n"
        "AUROC: mean over seeds [lowest, highest seed]. Difference: mean over the seeds that both have, minus that of "
        f"`{comparison.reference}`{at_budget}, with the 95 % interval of a paired bootstrap over patients and seeds "
        f"({comparison.resamples:,} resamples). With few seeds the interval is too narrow (of n seeds by "
        "sqrt(1 - 1/n)), and a single seed says nothing of others."
    )


def cell_name(cell: Cell) -> str:
    """Of a pretraining: its arm, and its budget where it has one."""
    if cell.level is None:
        return cell.arm
    return f"{cell.arm}, cost of {cell.level:g} pass{'' if cell.level == 1 else 'es'}"


def _costs(comparison: Comparison) -> list[str]:
    unit, size = flops_unit([cell.flops["total"] for cell in comparison.cells if cell.flops])
    lines = [
        f"| arm | seeds | kept | pairs trained | pairs scored | {unit} | FLOPs, relative |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for cell in comparison.cells:
        flops = f"{cell.flops['total'] / size:#.3g}".rstrip(".") if cell.flops else "not counted"
        columns = [cell_name(cell), _seeds(cell), f"{cell.keep_share:.1%}", f"{cell.pairs_trained:,.0f}"]
        lines.append(_row(*columns, f"{cell.pairs_scored:,.0f}", flops, _format(cell.relative_flops, "{:.1%}")))
    return lines


def _pretraining_figures(comparison: Comparison) -> list[str]:
    titles = " | ".join(f"{title} | difference" for title in GROUPS.values())
    lines = [f"| arm | FLOPs, relative | {titles} |", "|---|---:|" + "---|---|" * len(GROUPS)]
    for cell in comparison.cells:
        columns = [cell_name(cell), _format(cell.relative_flops, "{:.1%}")]
        for group in GROUPS:
            columns += [
                format_spread(cell.figures[group]),
                _difference(cell, cell.figures[group], comparison.reference),
            ]
        lines.append(_row(*columns))
    return lines


def _adaptation_heading(comparison: Comparison) -> str:
    names = ", ".join(comparison.names)
    if len(comparison.names) > _MOST_NAMES:
        names = f"{len(comparison.names)} labels"
    return (
        f"{comparison.metric} of {names} on {comparison.films:,} films of {comparison.patients:,} patients "
        f"(`{comparison.benchmark}`, version {comparison.benchmark_version}), adapted from "
        f"`{comparison.base['name']}`.\n\n"
        "Figures are means over seeds [lowest, highest seed]; intervals are of 95 %, by bootstrap over patients "
        f"and seeds ({comparison.resamples:,} resamples, the same for all). "
        f"Differences are to `{comparison.reference}` at the same share, on the same films, over the seeds of both."
    )


def _adaptation_table(comparison: Comparison) -> list[str]:
    lines = [
        f"| method | labels | films | seeds | {comparison.metric} | 95 % interval | minus {comparison.reference} | p | "
        "trainable | saved | seconds |",
        "|---|---:|---:|---|---|---|---|---:|---:|---:|---:|",
    ]
    for cell in comparison.cells:
        figure, size = cell.figures["macro"], None if cell.bytes is None else cell.bytes / 1e6
        low, high = figure.interval.low, figure.interval.high
        columns = [cell.arm, _percent(cell.level), _format(cell.train_films, "{:,.0f}"), _seeds(cell)]
        columns += [format_spread(figure), "-" if low is None else f"[{low:.3f}, {high:.3f}]"]
        columns += [_difference(cell, figure, comparison.reference), _format(figure.p_value, "{:.3f}")]
        columns += [_format(cell.trainable_share, "{:.2%}"), _format(size, "{:.2f} MB")]
        lines.append(_row(*columns, _format(cell.seconds, "{:,.0f}")))
    return lines


def _kept_starts(comparison: Comparison) -> list[str]:
    started = [
        f"{cell.arm} at {_percent(cell.level)} ({cell.kept_start} of {len(cell.seeds)} runs)"
        for cell in comparison.cells
        if cell.kept_start
    ]
    if not started:
        return []
    return [f"\nNothing learnt was better on validation than the start, which was kept: {', '.join(started)}."]


def _row(*columns: str) -> str:
    return f"| {' | '.join(columns)} |"


def _seeds(cell: Cell) -> str:
    return ", ".join(map(str, cell.seeds))


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"


def format_spread(figure: Figure) -> str:
    if figure.mean is None:
        return "not defined"
    return f"{figure.mean:.3f} [{figure.lowest:.3f}, {figure.highest:.3f}]"


def _difference(cell: Cell, figure: Figure, reference: str) -> str:
    if figure.difference is None:
        return "reference" if cell.arm == reference else "-"
    return format_difference(figure.difference)


def _format(value: float | None, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)

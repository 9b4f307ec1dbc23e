"""Methods of adaptation over shares of the labels as typed figures, JSON and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from eval.records.results import Estimate
from eval.significance import bootstrap_p_value, resample_by_patient
from eval.studies.adaptation_runs import AdaptedRun, group_runs
from eval.studies.table import Spread

FORMAT_VERSION = 1
#: More labels than these are counted in the heading, not named.
_MOST_NAMES = 8


@dataclass(frozen=True)
class Cell:
    """A method at one share of the labels; costs are means over its runs, None where a run did not record them.

    Args:
        method: with the settings that tell kinds apart, where there are such.
        label_share: of the training patients, above 0 up to 1.
        figure: of every seed.
        interval: of the mean over seeds, by bootstrap over patients.
        difference: to the reference at the same share, mean over the seeds of each, paired by film; None without one.
        p_value: two-sided, of the difference.
        bytes: of the saved adapter (or model).
        seconds: of the training.
        kept_start: runs whose best weights on validation were those before the first step: they show the start of the
            head, and nothing of the method.
    """

    method: str
    label_share: float
    seeds: list[int]
    figure: Spread
    interval: Estimate
    difference: Estimate | None
    p_value: float | None
    train_films: float | None
    trainable_parameters: float | None
    trainable_share: float | None
    bytes: float | None
    seconds: float | None
    kept_start: int = 0


@dataclass(frozen=True)
class AdaptationComparison:
    """All cells, by method and rising share. `names` are the labels or structures in the mean."""

    benchmark: str
    benchmark_version: int
    metric: str
    names: list[str]
    dataset_fingerprint: str
    films: int
    patients: int
    limited: bool
    base: dict
    reference: str
    resamples: int
    seed: int
    cells: list[Cell]
    interval: str = "95 % percentile interval of a bootstrap over patients, the same draws for all; seeds are not drawn"
    format_version: int = FORMAT_VERSION


def compare_runs(
    runs: Sequence[AdaptedRun], reference: str, by: Sequence[str], resamples: int, seed: int
) -> AdaptationComparison:
    """Summarise runs (of `load_runs`) and set every method against `reference` at the same share.

    Raises:
        ValueError: no run is of the reference, or see `group_runs`.
    """
    groups = group_runs(runs, by)
    if reference not in {kind for kind, _ in groups}:
        raise ValueError(f"--reference {reference!r} is none of {sorted({kind for kind, _ in groups})}")
    flat = [run for members in groups.values() for run in members]
    macros = resample_by_patient(
        lambda weights: np.stack([run.macro(weights) for run in flat], axis=1), flat[0].patients, resamples, seed
    )
    columns = {id(run): macros[:, number] for number, run in enumerate(flat)}
    means = {key: np.mean([columns[id(run)] for run in members], axis=0) for key, members in groups.items()}
    cells = [
        _summarise(key, groups[key], columns, means[key], means.get((reference, key[1])), reference)
        for key in sorted(groups, key=lambda key: (key[0] != reference, key))
    ]
    result = flat[0].result
    return AdaptationComparison(
        benchmark=result.benchmark,
        benchmark_version=result.benchmark_version,
        metric="macro AUROC" if result.task == "disease_prediction" else "mean Dice",
        names=flat[0].names,
        dataset_fingerprint=result.provenance.dataset_fingerprint,
        films=len(flat[0].patients),
        patients=len(np.unique(flat[0].patients)),
        limited=any(run.result.provenance.limited for run in flat),
        base=flat[0].record["base"],
        reference=reference,
        resamples=resamples,
        seed=seed,
        cells=cells,
    )


def _summarise(
    key: tuple[str, float],
    members: Sequence[AdaptedRun],
    columns: dict[int, np.ndarray],
    own: np.ndarray,
    of_reference: np.ndarray | None,
    reference: str,
) -> Cell:
    kind, share = key
    values = [float(columns[id(run)][0]) for run in members]
    paired = None if of_reference is None or kind == reference else own - of_reference
    trainable, everything = (_mean(members, name) for name in ("trainable_parameters", "all_parameters"))
    return Cell(
        kind,
        share,
        [run.seed for run in members],
        Spread(values, mean(values), min(values), max(values)),
        Estimate.of_resamples(own),
        None if paired is None else Estimate.of_resamples(paired),
        None if paired is None else bootstrap_p_value(paired),
        _mean(members, "train_films"),
        trainable,
        trainable / everything if trainable is not None and everything else None,
        _mean(members, "adapter_bytes"),
        _mean(members, "seconds"),
        sum(run.record.get("best_step") == 0 for run in members),
    )


def _mean(runs: Sequence[AdaptedRun], name: str) -> float | None:
    values = [run.record.get(name) for run in runs]
    return None if None in values else mean(values)


def format_markdown(comparison: AdaptationComparison) -> str:
    """A table with a row for each method and share, and how to read it."""
    one = comparison
    partial = f"PARTIAL: only the first {one.films:,} films were judged.\n\n" if one.limited else ""
    names = ", ".join(one.names) if len(one.names) <= _MOST_NAMES else f"{len(one.names)} labels"
    heading = (
        f"{partial}{one.metric} of {names} on {one.films:,} films of {one.patients:,} patients "
        f"(`{one.benchmark}`, version {one.benchmark_version}), adapted from `{one.base['name']}`.\n\n"
        "Figures are means over seeds [lowest, highest seed]; intervals are of 95 %, by bootstrap over patients "
        f"({one.resamples:,} resamples, the same for all), and cover the choice of patients, not that of seeds. "
        f"Differences are to `{one.reference}` at the same share, on the same films."
    )
    lines = [
        f"| method | labels | films | seeds | {one.metric} | 95 % interval | minus {one.reference} | p | trainable | "
        "saved | seconds |",
        "|---|---:|---:|---|---|---|---|---:|---:|---:|---:|",
    ]
    started = [
        f"{cell.method} at {_percent(cell.label_share)} ({cell.kept_start} of {len(cell.seeds)} runs)"
        for cell in one.cells
        if cell.kept_start
    ]
    footnote = f"\nNothing learnt was better on validation than the start, which was kept: {', '.join(started)}."
    cells = [_format_cell(cell, one.reference) for cell in one.cells]
    return "\n".join([heading, "", *lines, *cells, *([footnote] if started else [])])


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"


def _format_cell(cell: Cell, reference: str) -> str:
    figure = f"{cell.figure.mean:.3f} [{cell.figure.lowest:.3f}, {cell.figure.highest:.3f}]"
    interval = f"[{cell.interval.low:.3f}, {cell.interval.high:.3f}]" if cell.interval.low is not None else "-"
    difference = "reference" if cell.method == reference else "-"
    if cell.difference is not None:
        difference = _format_difference(cell.difference)
    cells = [
        cell.method,
        _percent(cell.label_share),
        _format(cell.train_films, "{:,.0f}"),
        ", ".join(map(str, cell.seeds)),
        figure,
        interval,
        difference,
        _format(cell.p_value, "{:.3f}"),
        _format(cell.trainable_share, "{:.2%}"),
        _format(None if cell.bytes is None else cell.bytes / 1e6, "{:.2f} MB"),
        _format(cell.seconds, "{:,.0f}"),
    ]
    return f"| {' | '.join(cells)} |"


def _format_difference(one: Estimate) -> str:
    interval = "no interval" if one.low is None else f"{one.low:+.3f}, {one.high:+.3f}"
    return "not defined" if one.value is None else f"{one.value:+.3f} [{interval}]"


def _format(value: float | None, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)

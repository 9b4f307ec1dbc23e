"""Results as text: one in full, and many models on many benchmarks side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.benchmarks import BENCHMARKS
from eval.records.results import Estimate, TaskResult, ZeroShotResult


@dataclass
class Row:
    """What became of a benchmark with a model.

    `status` is "judged" (now or before), "absent" (its data), or "refused"; `note` says how to get the data, or why.
    `metric`, `estimate`, `films` and `partial` are of an evaluated one.
    """

    model: str
    benchmark: str
    status: str
    note: str = ""
    metric: str | None = None
    estimate: Estimate | None = None
    films: int | None = None
    partial: bool = False
    seen_sources: list[str] | None = None

    @classmethod
    def of_result(cls, result: TaskResult) -> Row:
        metric, estimate = result.headline
        provenance = result.provenance
        return cls(
            provenance.model,
            result.benchmark,
            "judged",
            metric=metric,
            estimate=estimate,
            films=provenance.films,
            partial=provenance.limited,
            seen_sources=provenance.seen_sources,
        )


def format_estimate(estimate: Estimate) -> str:
    if estimate.value is None:
        return "not defined"
    if estimate.low is None:
        # No resample has both classes, or the structure.
        return f"{estimate.value:.3f} [no interval]"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def format_difference(estimate: Estimate) -> str:
    """A difference with its sign and interval."""
    interval = "no interval" if estimate.low is None else f"{estimate.low:+.3f}, {estimate.high:+.3f}"
    return "not defined" if estimate.value is None else f"{estimate.value:+.3f} [{interval}]"


def format_rows(rows: Sequence[Row]) -> str:
    """A Markdown table, benchmarks down and models across, and below it what the figures do not say."""
    models = list(dict.fromkeys(row.model for row in rows))
    lines = [f"| benchmark | metric | films | {' | '.join(models)} |", "|---|---|---:|" + "---|" * len(models)]
    for name in dict.fromkeys(row.benchmark for row in rows):
        of_model = {row.model: row for row in rows if row.benchmark == name}
        evaluated = [row for row in of_model.values() if row.status == "judged"]
        # The part of the metric's name that all models share stands in front, the rest beside each figure.
        metrics = {row.metric for row in evaluated} or {BENCHMARKS[name].metric}
        metric = metrics.pop() if len(metrics) == 1 else evaluated[0].metric.split(", ")[0]
        films = _films(name, evaluated[0].films if evaluated else None)
        cells = [_cell(of_model.get(model), metric) for model in models]
        lines.append(f"| {name} | {metric} | {films} | {' | '.join(cells)} |")
    return "\n".join([*lines, *_notes(rows)])


def _films(name: str, evaluated: int | None) -> str:
    """Films evaluated, and how many the complete benchmark has where that is another number: figures do not compare."""
    expected = BENCHMARKS[name].expected
    if evaluated is None:
        return f"({expected:,})" if expected else ""
    return f"{evaluated:,}" if expected in (None, evaluated) else f"{evaluated:,} of {expected:,}"


def _cell(row: Row | None, metric: str) -> str:
    if row is None or row.status != "judged":
        return "-" if row is None else {"absent": "data absent", "refused": "refused"}[row.status]
    marks = f" ({row.metric.removeprefix(f'{metric}, ')})" if row.metric != metric else ""
    marks += (" PARTIAL" if row.partial else "") + (" (seen)" if row.seen_sources else "")
    return format_estimate(row.estimate) + marks


def _notes(rows: Sequence[Row]) -> list[str]:
    lines = []
    refused = [row for row in rows if row.status == "refused"]
    if refused:
        lines += ["", "Refused:", *(f"- {row.benchmark}, {row.model}: {row.note}" for row in refused)]
    absent = dict.fromkeys((row.benchmark, row.note) for row in rows if row.status == "absent")
    if absent:
        lines += ["", "Data absent; prepare them below DATA with:", *(f"- {name}: `{note}`" for name, note in absent)]
    if any(row.seen_sources for row in rows):
        lines += [
            "",
            "(seen): the model was trained on other films of the same source, or of a corpus that contains the "
            "benchmark; not an unseen source.",
        ]
    if any(row.partial for row in rows):
        lines += ["", "PARTIAL: a trial on the first films only."]
    return lines


def format_table(result: ZeroShotResult) -> str:
    """A zero-shot result in full: findings by frequency, then the means, prompts and subgroups."""
    lines = [f"{'finding':28} {'AUROC [95 % interval]':24} {'positive / films':>16} {'in training':>12}"]
    for group in result.frequencies:
        lines.append(f"-- {group.name} ({group.lowest:.0%} to {group.below:.0%} of training films)")
        members = [label for label in result.labels if label.name in group.labels]
        for label in sorted(members, key=lambda label: -label.prevalence):
            films = f"{label.positives} / {label.films}"
            lines.append(f"{label.name:28} {format_estimate(label.auroc):24} {films:>16} {label.prevalence:>12.2%}")
    lines.append("-- mean")
    lines.append(f"{'all':28} {format_estimate(result.macro):24}")
    lines += [f"{group.name:28} {format_estimate(group.auroc):24}" for group in result.frequencies]
    if result.other_prompts:
        lines.append(f"-- mean with other prompts than {result.prompts!r}")
        lines += [f"{prompts.name:28} {format_estimate(prompts.macro):24}" for prompts in result.other_prompts]
    if result.subgroups:
        lines.append("-- mean by subgroup")
        for subgroup in result.subgroups:
            name = f"{subgroup.attribute}: {subgroup.value}"
            lines.append(
                f"{name:28} {format_estimate(subgroup.estimate):24} {subgroup.films:>16,} ({subgroup.labels} findings)"
            )
    return "\n".join([*lines, *_warnings(result)])


def _warnings(result: ZeroShotResult) -> list[str]:
    lines, provenance = list(result.notes), result.provenance
    if result.undefined:
        lines.append(f"one class only, no AUROC: {', '.join(result.undefined)}")
    if provenance.limited:
        lines.append(f"PARTIAL: the first {provenance.films} films only")
    if provenance.seen_sources:
        lines.append(
            f"note: the model was trained on other films of {', '.join(provenance.seen_sources)}; this is a held-out "
            "split, not an unseen source"
        )
    return lines

"""Pictures of runs side by side: AUROC of every arm, and AUROC against the operations spent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from eval.studies.label_placement import name_clusters
from eval.studies.runs import GROUPS, Run, values_of
from eval.studies.table import flops_unit


def _groups(arms: dict[str, Sequence[Run]]) -> list[str]:
    """Groups of findings that can be judged; there may be no rare ones."""
    return [group for group in GROUPS if all(values_of(runs, group) for runs in arms.values())]


def plot_arms(arms: dict[str, Sequence[Run]], path: Path) -> None:
    """A panel for each group of findings: every seed with its interval by patient, the mean as a bar."""
    groups, names = _groups(arms), list(arms)[::-1]
    figure, panels = plt.subplots(
        1, len(groups), figsize=(11, 1.6 + 0.55 * len(arms)), sharey=True, layout="constrained", squeeze=False
    )
    for panel, group in zip(panels[0], groups, strict=True):
        for height, name in enumerate(names):
            runs = arms[name]
            colour = "#8a8a8a" if name.startswith(("full", "random")) else "#1f6f8b"
            for number, run in enumerate(runs):
                estimate, offset = getattr(run.result, group), (number - (len(runs) - 1) / 2) * 0.16
                panel.plot([estimate.low, estimate.high], [height + offset] * 2, color=colour, alpha=0.4, linewidth=1.5)
                panel.plot(estimate.value, height + offset, "o", color=colour, markersize=4)
            panel.plot([mean(values_of(runs, group))] * 2, [height - 0.36, height + 0.36], color=colour, linewidth=2.5)
        panel.set_title(GROUPS[group], fontsize=10)
        panel.set_xlabel("zero-shot AUROC")
        panel.grid(axis="x", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_yticks(range(len(names)), names)
    figure.suptitle("Dots: seeds with 95 % interval by patient; bars: means", fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_flops(arms: dict[str, Sequence[Run]], reference: str, left_out: Sequence[str], path: Path) -> None:
    """A panel for each group of findings: macro AUROC of every seed, and of their mean, against counted FLOPs.

    Args:
        arms: arms whose runs all counted their FLOPs.
        reference: the arm whose AUROC is the dotted line and whose FLOPs are 100 % on the upper axis; both are left
            out if it is not among `arms`.
        left_out: names of arms that did not count them, for a note.
        path: of the picture.
    """
    groups = _groups(arms)
    unit, size = flops_unit([run.flops["total"] for runs in arms.values() for run in runs])
    height = (2.1 + 0.16 * len(arms)) * len(groups)
    figure, grid = plt.subplots(
        len(groups), 1, figsize=(9, 1 + height), sharex=True, layout="constrained", squeeze=False
    )
    panels = dict(zip(groups, grid[:, 0], strict=True))
    points = {group: _arm_points(arms, group, size) for group in groups}
    for group, panel in panels.items():
        _draw_arms(panel, points[group], GROUPS[group])
        if reference in arms:
            panel.axhline(_mean_point(points[group][reference])[1], color="grey", linewidth=1, linestyle=":")
    _format_flops_axis(grid[-1, 0], [x for arm in points[groups[0]].values() for x, _ in arm], unit)
    if reference in arms:
        _add_share_axis(grid[0, 0], mean(x for x, _ in points[groups[0]][reference]), reference)
    line = f"; dotted: {reference}" if reference in arms else ""
    note = f"\nFLOPs not counted, so not shown: {', '.join(left_out)}" if left_out else ""
    figure.suptitle(f"Dots: seeds; diamonds: their means{line}{note}", fontsize=9)
    # Labels are placed by what overlaps on paper, so the layout must be settled first.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for group, panel in panels.items():
        # In two lines, names of variants find room nearer to their points.
        names = {name.replace(" (", "\n("): arm for name, arm in points[group].items()}
        name_clusters(panel, names, [_colour(number) for number in range(len(names))])
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _arm_points(arms: dict[str, Sequence[Run]], group: str, size: float) -> dict[str, list[tuple[float, float]]]:
    """(FLOPs in units of `size`, AUROC) of every run of every arm."""
    return {
        name: [(run.flops["total"] / size, value) for run, value in zip(runs, values_of(runs, group), strict=True)]
        for name, runs in arms.items()
    }


def _mean_point(points: list[tuple[float, float]]) -> tuple[float, float]:
    return mean(x for x, _ in points), mean(y for _, y in points)


def _draw_arms(panel: Axes, arms: dict[str, list[tuple[float, float]]], title: str) -> None:
    for number, points in enumerate(arms.values()):
        (x, y), values = _mean_point(points), [value for _, value in points]
        panel.plot([x, x], [min(values), max(values)], color=_colour(number), alpha=0.35, linewidth=1.5)
        panel.plot(*zip(*points, strict=True), "o", color=_colour(number), alpha=0.55, markersize=4)
        panel.plot(x, y, "D", color=_colour(number), markersize=7, markeredgecolor="white")
    panel.set_title(title, fontsize=10, loc="left")
    panel.set_ylabel("zero-shot AUROC")
    panel.margins(y=0.14)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def _colour(number: int) -> str:
    return f"C{number % 10}"


def _format_flops_axis(panel: Axes, values: list[float], unit: str) -> None:
    """Logarithmic, with plain numbers at 1, 2 and 5 and room for at least one of them and for labels."""
    panel.set_xscale("log")
    panel.set_xlim(min(values) / 1.8, max(values) * 1.8)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel(f"{unit} spent on training and scoring (counted; logarithmic)")


def _add_share_axis(panel: Axes, whole: float, reference: str) -> None:
    """On top, the same as a share of the reference's FLOPs `whole`."""
    axis = panel.secondary_xaxis("top", functions=(lambda x: x / whole, lambda share: share * whole))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel(f"share of the FLOPs of {reference}", fontsize=9)

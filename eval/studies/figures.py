"""Pictures of cells: figures of every arm, figures against the operations spent, and methods over label shares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from eval.studies.cells import GROUPS, Cell, Comparison
from eval.studies.label_placement import name_clusters
from eval.studies.table import cell_name, flops_unit

METHOD_COLOURS = {"lora": "#1f6f8b", "hira": "#7a5195", "linear": "#c8553d", "full": "#6b6b6b"}
#: Methods stand beside each other at a share, each this factor further to the right.
STEP = 1.07


def _groups(cells: Sequence[Cell]) -> list[str]:
    """Groups of findings that can be evaluated; there may be no rare ones."""
    return [group for group in GROUPS if all(cell.figures[group].mean is not None for cell in cells)]


def plot_arms(comparison: Comparison, path: Path) -> None:
    """A panel for each group of findings: every seed with its interval by patient, the mean as a bar."""
    # From below: the reference is the first.
    cells = comparison.cells[::-1]
    groups = _groups(cells)
    figure, panels = plt.subplots(
        1, len(groups), figsize=(11, 1.6 + 0.55 * len(cells)), sharey=True, layout="constrained", squeeze=False
    )
    for panel, group in zip(panels[0], groups, strict=True):
        for height, cell in enumerate(cells):
            colour = "#8a8a8a" if cell.arm.startswith(("full", "random")) else "#1f6f8b"
            by_seed, average = cell.figures[group].by_seed, cell.figures[group].mean
            for number, estimate in enumerate(by_seed):
                place = height + (number - (len(by_seed) - 1) / 2) * 0.16
                if estimate.low is not None:
                    panel.plot([estimate.low, estimate.high], [place] * 2, color=colour, alpha=0.4, linewidth=1.5)
                panel.plot(estimate.value, place, "o", color=colour, markersize=4)
            panel.plot([average] * 2, [height - 0.36, height + 0.36], color=colour, linewidth=2.5)
        panel.set_title(GROUPS[group], fontsize=10)
        panel.set_xlabel(comparison.metric)
        panel.grid(axis="x", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_yticks(range(len(cells)), [cell_name(cell) for cell in cells])
    figure.suptitle("Dots: seeds with 95 % interval by patient; bars: means", fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_flops(comparison: Comparison, path: Path) -> bool:
    """A panel for each group of findings: macro AUROC of every seed, and of their mean, against counted FLOPs.

    Where the reference counted its FLOPs, its AUROC is a dotted line and its FLOPs are 100 % on the upper axis. A note
    names the arms that did not count them. Returns whether there was any arm to plot.
    """
    cells = {cell.arm: cell for cell in comparison.cells if cell.flops}
    if not cells:
        return False
    left_out = [cell.arm for cell in comparison.cells if not cell.flops]
    reference = comparison.reference
    groups = _groups(list(cells.values()))
    unit, size = flops_unit([flops for cell in cells.values() for flops in cell.flops_by_seed])
    height = (2.1 + 0.16 * len(cells)) * len(groups)
    figure, grid = plt.subplots(
        len(groups), 1, figsize=(9, 1 + height), sharex=True, layout="constrained", squeeze=False
    )
    panels = dict(zip(groups, grid[:, 0], strict=True))
    points = {group: {arm: _points(cell, group, size) for arm, cell in cells.items()} for group in groups}
    for group, panel in panels.items():
        _draw_arms(panel, points[group], GROUPS[group])
        panel.set_ylabel(comparison.metric)
        if reference in cells:
            panel.axhline(_mean_point(points[group][reference])[1], color="grey", linewidth=1, linestyle=":")
    _format_flops_axis(grid[-1, 0], [x for arm in points[groups[0]].values() for x, _ in arm], unit)
    if reference in cells:
        _add_share_axis(grid[0, 0], mean(x for x, _ in points[groups[0]][reference]), reference)
    line = f"; dotted: {reference}" if reference in cells else ""
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
    return True


def _points(cell: Cell, group: str, size: float) -> list[tuple[float, float]]:
    """(FLOPs in units of `size`, AUROC) of every run of a cell."""
    return [(flops / size, value) for flops, value in zip(cell.flops_by_seed, cell.figures[group].values, strict=True)]


def _mean_point(points: list[tuple[float, float]]) -> tuple[float, float]:
    return mean(x for x, _ in points), mean(y for _, y in points)


def _draw_arms(panel: Axes, arms: dict[str, list[tuple[float, float]]], title: str) -> None:
    for number, points in enumerate(arms.values()):
        (x, y), values = _mean_point(points), [value for _, value in points]
        panel.plot([x, x], [min(values), max(values)], color=_colour(number), alpha=0.35, linewidth=1.5)
        panel.plot(*zip(*points, strict=True), "o", color=_colour(number), alpha=0.55, markersize=4)
        panel.plot(x, y, "D", color=_colour(number), markersize=7, markeredgecolor="white")
    panel.set_title(title, fontsize=10, loc="left")
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


def plot_budgets(comparison: Comparison, path: Path) -> bool:
    """A panel for each group of findings: AUROC over counted FLOPs, a line for each arm through its budgets.

    Bars are intervals over patients and seeds. Arms whose runs counted no FLOPs are left out. Returns whether there was
    any arm to plot.
    """
    cells = [cell for cell in comparison.cells if cell.flops and cell.level is not None]
    if not cells:
        return False
    groups, arms = _groups(cells), list(dict.fromkeys(cell.arm for cell in cells))
    unit, size = flops_unit([flops for cell in cells for flops in cell.flops_by_seed])
    figure, grid = plt.subplots(
        len(groups), 1, figsize=(9.5, 1 + 3.2 * len(groups)), sharex=True, layout="constrained", squeeze=False
    )
    for panel, group in zip(grid[:, 0], groups, strict=True):
        for number, arm in enumerate(arms):
            own = sorted((cell for cell in cells if cell.arm == arm), key=lambda cell: cell.level)
            _draw_budgets(panel, own, group, size, number, len(arms), arm == comparison.reference)
        panel.set_title(GROUPS[group], fontsize=10, loc="left")
        panel.set_ylabel(comparison.metric)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    _format_flops_axis(grid[-1, 0], [cell.flops["total"] / size for cell in cells], unit)
    of_one_pass = mean(cell.flops["total"] / cell.level for cell in cells) / size
    axis = grid[0, 0].secondary_xaxis("top", functions=(lambda x: x / of_one_pass, lambda passes: passes * of_one_pass))
    levels = sorted({cell.level for cell in cells})
    axis.xaxis.set_major_locator(FixedLocator(levels))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda passes, _: f"{passes:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("cost of so many plain passes over all pairs, scoring included", fontsize=9)
    # Below: names of arms may be longer than the picture is wide.
    handles, names = grid[0, 0].get_legend_handles_labels()
    columns = 1 if max(map(len, names)) > 36 else 2
    figure.legend(handles, names, frameon=False, loc="outside lower center", ncols=columns)
    figure.suptitle("Means over seeds; bars: 95 % interval over patients and seeds", fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return True


def _draw_budgets(
    panel: Axes, cells: list[Cell], group: str, size: float, number: int, count: int, is_reference: bool
) -> None:
    """The line of one arm; arms stand beside each other at a budget."""
    # Less than between methods, since the place is a figure here.
    offset = STEP ** ((number - (count - 1) / 2) / 6)
    places = [cell.flops["total"] / size * offset for cell in cells]
    colour = "black" if is_reference else _colour(number)
    figures = [cell.figures[group] for cell in cells]
    width = 2.2 if is_reference else 1.4
    panel.plot(places, [figure.mean for figure in figures], "-o", color=colour, lw=width, ms=4, label=cells[0].arm)
    for place, figure in zip(places, figures, strict=True):
        if figure.interval.low is not None:
            panel.plot([place] * 2, [figure.interval.low, figure.interval.high], color=colour, alpha=0.3, lw=width)


def plot_shares(comparison: Comparison, path: Path) -> None:
    """The figure over the share of labels, logarithmic: a line for each method, its intervals, and single seeds."""
    figure, axes = plt.subplots(figsize=(7.6, 4.4), layout="constrained")
    arms = list(dict.fromkeys(cell.arm for cell in comparison.cells))
    for number, arm in enumerate(arms):
        cells = sorted((cell for cell in comparison.cells if cell.arm == arm), key=lambda cell: cell.level)
        offset = STEP ** (number - (len(arms) - 1) / 2)
        draw_shares(axes, cells, offset, METHOD_COLOURS.get(arm, _colour(number)))
    shares = sorted({cell.level for cell in comparison.cells})
    label_shares(axes, shares)
    axes.set_xlim(shares[0] / 1.6, shares[-1] * 1.6)
    axes.set_xlabel("share of the training patients whose labels were used")
    axes.set_ylabel(comparison.metric)
    axes.set_title(
        f"{comparison.metric} on {comparison.films:,} films of {comparison.patients:,} patients"
        f"{', PARTIAL' if comparison.limited else ''}\nline: mean over seeds, bar: 95 % interval, "
        "strokes: seeds",
        fontsize=9,
        loc="left",
    )
    axes.legend(frameon=False, loc="lower right")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def label_shares(axes: Axes, shares: Sequence[float]) -> None:
    """A logarithmic axis of shares of the labels."""
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
    axes.xaxis.set_minor_locator(NullLocator())


def draw_shares(axes: Axes, cells: list[Cell], offset: float, colour: str) -> None:
    places = [cell.level * offset for cell in cells]
    figures = [cell.figures["macro"] for cell in cells]
    # An undefined mean leaves a gap.
    means = [float("nan") if figure.mean is None else figure.mean for figure in figures]
    axes.plot(places, means, "-o", color=colour, markersize=5, label=cells[0].arm)
    for place, figure in zip(places, figures, strict=True):
        if figure.interval.low is not None:
            axes.plot([place] * 2, [figure.interval.low, figure.interval.high], color=colour, linewidth=2.5, alpha=0.35)
        if figure.mean is not None and len(figure.values) > 1:
            axes.plot([place] * len(figure.values), figure.values, "_", color=colour, markersize=9)

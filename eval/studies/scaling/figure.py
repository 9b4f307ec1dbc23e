"""Curves of error over films, both logarithmic, with their fits and bands."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from eval.studies.scaling.results import Curve, Scaling

#: Beyond the largest size a fit is drawn dotted, up to so many times that size.
_SHOWN_BEYOND = 4.0


def plot_scaling(scaling: Scaling, path: Path) -> None:
    """A panel for each benchmark: dots are seeds, diamonds their means with intervals, lines fits with 95 % bands."""
    names = list(dict.fromkeys(curve.benchmark for curve in scaling.curves))
    arms = list(dict.fromkeys(curve.arm for curve in scaling.curves))
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(1 + 5.2 * columns, 0.8 + 3.9 * rows), layout="constrained", squeeze=False
    )
    for panel, name in zip(grid.flat, names, strict=False):
        for curve in (curve for curve in scaling.curves if curve.benchmark == name):
            colour = f"C{arms.index(curve.arm) % 10}"
            _draw(panel, curve, colour)
            _draw_reference(panel, curve, colour)
        _format(panel, name, next(curve.metric for curve in scaling.curves if curve.benchmark == name))
    for panel in list(grid.flat)[len(names) :]:
        panel.set_visible(False)
    figure.suptitle(
        "Dots: seeds; diamonds: means with 95 % intervals; bands: 95 % of the fits; dotted: beyond"
        + (f"; dashed: {scaling.reference}" if scaling.reference else ""),
        fontsize=9,
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw(panel: Axes, curve: Curve, colour: str) -> None:
    films = [point.films for point in curve.points]
    means = [point.error.value for point in curve.points]
    for point in curve.points:
        panel.plot([point.films] * len(point.by_seed), point.by_seed, "o", color=colour, alpha=0.35, markersize=3.5)
        if point.error.low is not None:
            panel.plot([point.films] * 2, [point.error.low, point.error.high], color=colour, alpha=0.6, linewidth=1.2)
    label = curve.arm if curve.fit is not None else f"{curve.arm}: {curve.state}, no fit"
    if curve.fit is None:
        panel.plot(
            films, means, "D--", color=colour, markersize=5.5, markeredgecolor="white", linewidth=0.8, label=label
        )
        return
    label += f", b = {curve.fit.exponent.value:.2f}"
    panel.plot(films, means, "D", color=colour, markersize=5.5, markeredgecolor="white")
    grid, error = np.array(curve.fit.grid), np.array(curve.fit.error)
    shown = grid <= _SHOWN_BEYOND * films[-1]
    inside = grid <= films[-1] * 1.01
    panel.plot(grid[inside], error[inside], color=colour, linewidth=1.6, label=label)
    panel.plot(grid[shown & (grid >= films[-1] * 0.99)], error[shown & (grid >= films[-1] * 0.99)], ":", color=colour)
    if curve.fit.low is not None and curve.fit.high is not None:
        low, high = np.array(curve.fit.low), np.array(curve.fit.high)
        panel.fill_between(grid[shown], low[shown], high[shown], color=colour, alpha=0.15, linewidth=0)


def _draw_reference(panel: Axes, curve: Curve, colour: str) -> None:
    """What the arm is to beat, in its colour; where arms have one, that of the last covers the others."""
    if curve.reference is not None and curve.reference.value is not None:
        panel.axhline(curve.reference.value, color=colour, linestyle="--", linewidth=1, alpha=0.8)


def _format(panel: Axes, name: str, metric: str) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_title(name, fontsize=10, loc="left")
    panel.set_xlabel("training films")
    panel.set_ylabel(f"1 - {metric}")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    low, high = panel.get_ylim()
    subs = tuple(range(1, 10)) if high / low > 1.8 else tuple(np.arange(1, 10, 0.25 if high / low > 1.25 else 0.05))
    panel.yaxis.set_major_locator(LogLocator(subs=subs, numticks=50))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=7.5, frameon=False)

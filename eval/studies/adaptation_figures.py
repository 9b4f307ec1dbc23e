"""A picture of methods over shares of the labels."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator

from eval.studies.adaptation_table import AdaptationComparison, Cell

_COLOURS = {"lora": "#1f6f8b", "linear": "#c8553d", "full": "#6b6b6b"}
#: Methods stand beside each other at a share, each this factor further to the right.
_STEP = 1.07


def plot_adaptations(comparison: AdaptationComparison, path: Path) -> None:
    """The figure over the share of labels, logarithmic: a line for each method, its intervals, and single seeds."""
    figure, axes = plt.subplots(figsize=(7.6, 4.4), layout="constrained")
    methods = list(dict.fromkeys(cell.method for cell in comparison.cells))
    for number, method in enumerate(methods):
        cells = sorted((cell for cell in comparison.cells if cell.method == method), key=lambda cell: cell.label_share)
        offset = _STEP ** (number - (len(methods) - 1) / 2)
        _draw_method(axes, cells, offset, _COLOURS.get(method, f"C{number % 10}"))
    shares = sorted({cell.label_share for cell in comparison.cells})
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(shares[0] / 1.6, shares[-1] * 1.6)
    axes.set_xlabel("share of the training patients whose labels were used")
    axes.set_ylabel(comparison.metric)
    axes.set_title(
        f"{comparison.metric} on {comparison.films:,} films of {comparison.patients:,} patients"
        f"{', PARTIAL' if comparison.limited else ''}\nline: mean over seeds, bar: 95 % interval by patient, "
        "strokes: seeds",
        fontsize=9,
        loc="left",
    )
    axes.legend(frameon=False, loc="lower right")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_method(axes: plt.Axes, cells: list[Cell], offset: float, colour: str) -> None:
    places = [cell.label_share * offset for cell in cells]
    axes.plot(places, [cell.figure.mean for cell in cells], "-o", color=colour, markersize=5, label=cells[0].method)
    for place, cell in zip(places, cells, strict=True):
        if cell.interval.low is not None:
            axes.plot([place] * 2, [cell.interval.low, cell.interval.high], color=colour, linewidth=2.5, alpha=0.35)
        if len(cell.seeds) > 1:
            axes.plot([place] * len(cell.seeds), cell.figure.values, "_", color=colour, markersize=9)

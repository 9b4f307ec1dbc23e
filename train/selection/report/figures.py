"""The figures of the curation report, as SVG text that stands alone (letters as outlines, nothing fetched)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from eval.studies.label_placement import name_clusters
from train.selection.outcome import Role
from train.selection.prototypes import COLLAPSED_ENTROPY, collapsed_cosine
from train.selection.report.feature_map import FeatureMap
from train.selection.report.intervals import Enrichment
from train.selection.report.report_numbers import CurationNumbers
from train.selection.report.summary import percent

KEPT, DROPPED, CONTRAST, LESS = "#1f6f8b", "#b4bac1", "#c8553d", "#7a5195"
#: Colour, mark and size of a role in the map; the marks differ too, for readers who do not tell the colours apart.
_ROLE_STYLES = {
    Role.REDUNDANT: (DROPPED, "o", 6),
    Role.OUTLIER: ("#2b2b2b", "x", 14),
    Role.CENTRAL: (KEPT, "o", 13),
    Role.PERIPHERY: (LESS, "s", 12),
    Role.MARGIN: (CONTRAST, "^", 15),
}
#: Narrow, so that the letters stay readable on a phone.
_WIDTH = 5.4
_STYLE = {"font.size": 9.5, "svg.fonttype": "path", "svg.hashsalt": "curation", "axes.spines.top": False}
_STYLE |= {"axes.spines.right": False, "legend.frameon": False, "axes.titlesize": 10, "axes.titlelocation": "left"}
_NAMES_SHOWN = 9
_RATIO_TICKS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)


def _to_svg(figure: Figure) -> str:
    """The SVG element alone, without the date and the links that matplotlib puts in."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=150, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def draw_course(numbers: CurationNumbers) -> str:
    """Share kept by training step, and below it the health of the prototypes where there are any."""
    healthy = [moment for moment in numbers.course if moment.usage_entropy is not None]
    with plt.rc_context(_STYLE):
        figure, panels = plt.subplots(
            2 if healthy else 1, 1, figsize=(_WIDTH, 4.6 if healthy else 2.7), sharex=True, layout="constrained"
        )
        first = panels[0] if healthy else panels
        shown = [moment for moment in numbers.course if moment.kept_share is not None]
        steps, shares = [moment.step for moment in shown], [moment.kept_share for moment in shown]
        asked = numbers.run["keep_share_asked"]
        if asked is not None:
            first.axhline(asked, color="grey", linestyle=":", linewidth=1.2, label=f"asked: {percent(asked)}")
        first.plot(steps, shares, _line("o", steps), color=KEPT, markersize=3, label="kept, of the pairs judged so far")
        first.set_ylim(0, max([0.05, asked or 0, *shares]) * 1.3)
        first.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        first.set_title("Share kept")
        first.legend(loc="lower right", fontsize=8.5)
        if healthy:
            _draw_health(panels[1], healthy)
        last = panels[1] if healthy else panels
        last.set_xlabel("training step")
        last.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        for number, panel in enumerate(np.atleast_1d(panels)):
            _mark_phases(panel, numbers, named=number == 0)
        return _to_svg(figure)


def _line(mark: str, steps: Sequence[int]) -> str:
    """A line with marks, unless they would hide it."""
    return f"{mark}-" if len(steps) <= 40 else "-"


def _draw_health(panel: Axes, moments: Sequence) -> None:
    steps = [moment.step for moment in moments]
    panel.plot(
        steps,
        [moment.usage_entropy for moment in moments],
        _line("o", steps),
        color=KEPT,
        markersize=3,
        label="usage entropy",
    )
    panel.plot(
        steps,
        [moment.mean_cosine for moment in moments],
        _line("s", steps),
        color=CONTRAST,
        markersize=3,
        label="mean cosine",
    )
    panel.axhline(COLLAPSED_ENTROPY, color=KEPT, linewidth=0.9, linestyle="--", alpha=0.7)
    panel.axhline(collapsed_cosine(moments[0].mean_cosine), color=CONTRAST, linewidth=0.9, linestyle="--", alpha=0.7)
    panel.set_ylim(min([-0.05, *(moment.mean_cosine - 0.05 for moment in moments)]), 1.08)
    panel.set_title("Prototypes (dashed: collapsed below this entropy, above this cosine)")
    panel.legend(loc="center right", fontsize=8.5)


def _mark_phases(panel: Axes, numbers: CurationNumbers, named: bool) -> None:
    """Shade the curation epoch, and name the phases."""
    start, end = numbers.phases
    last = max(numbers.run["steps"], 1)
    panel.set_xlim(0, last * 1.01)
    panel.axvspan(start, end, color=KEPT, alpha=0.08, linewidth=0)
    spans = {"warm-up": (0, start), "curation": (start, end), "kept subset": (end, last)}
    for name, (left, right) in spans.items() if named else ():
        if right - left > 0.12 * last:
            panel.text((left + right) / 2, 0.97, name, transform=panel.get_xaxis_transform(), ha="center", va="top",
                       fontsize=8.5, color="#555555")  # fmt: skip


def draw_prototypes(numbers: CurationNumbers) -> str:
    """For every prototype the pairs nearest to it, those kept of them, and its updates."""
    order = sorted(numbers.prototypes, key=lambda prototype: -prototype.pairs)
    places = np.arange(1, len(order) + 1)
    with plt.rc_context(_STYLE):
        figure, (sizes, usage) = plt.subplots(2, 1, figsize=(_WIDTH, 4.4), sharex=True, layout="constrained")
        sizes.bar(places, [prototype.pairs for prototype in order], color=DROPPED, label="judged")
        sizes.bar(places, [prototype.kept for prototype in order], color=KEPT, label="kept")
        sizes.set_title("Pairs nearest to each prototype")
        sizes.set_ylim(0, max([1, *(prototype.pairs for prototype in order)]) * 1.18)
        sizes.legend(loc="upper right", fontsize=8.5, ncols=2)
        if len(order) <= 12:
            for place, prototype in zip(places, order, strict=True):
                sizes.text(
                    place,
                    prototype.pairs,
                    percent(prototype.kept / max(prototype.pairs, 1), 0),
                    ha="center",
                    va="bottom",
                    fontsize=8,
                )
        usage.bar(places, [prototype.usage for prototype in order], color=CONTRAST)
        mean = sum(prototype.usage for prototype in order) / len(order)
        usage.axhline(mean, color="grey", linestyle=":", linewidth=1.2, label="equal usage")
        usage.set_title("Usage: kept pairs that moved it")
        usage.set_ylim(0, max([1, *(prototype.usage for prototype in order)]) * 1.25)
        usage.legend(loc="upper right", fontsize=8.5)
        usage.set_xlabel("prototype, largest first")
        usage.set_xlim(0.3, len(order) + 0.7)
        usage.xaxis.set_major_locator(MaxNLocator(integer=True))
        for panel in (sizes, usage):
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        return _to_svg(figure)


def verdict_colour(finding: Enrichment) -> str:
    """More frequent among the kept, less frequent, or not to be told."""
    return CONTRAST if finding.low > 1 else LESS if finding.high < 1 else "#7f868d"


def draw_enrichment(numbers: CurationNumbers) -> str:
    """Enrichment of every finding with its interval against its frequency, both on logarithmic axes."""
    findings = [finding for finding in numbers.findings if finding.ratio is not None]
    # By the points, not by their intervals, which may reach down to zero.
    floor = max(min([0.5, *(finding.ratio for finding in findings if finding.ratio > 0)]) * 0.7, 0.02)
    ceiling = max([2.0, *(finding.high for finding in findings)]) * 1.15
    with plt.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(_WIDTH, 4.6), layout="constrained")
        for finding in findings:
            colour = verdict_colour(finding)
            panel.plot(
                [finding.prevalence] * 2,
                [max(finding.low, floor / 2), max(finding.high, floor)],
                color=colour,
                alpha=0.45,
                linewidth=1.6,
            )
            # On a logarithmic axis nothing lies at zero: a triangle at the foot stands for it.
            mark, height = ("o", finding.ratio) if finding.ratio > floor else ("v", floor)
            panel.plot(finding.prevalence, height, mark, color=colour, markersize=5)
        panel.axhline(1, color="black", linewidth=0.9)
        panel.set_xscale("log")
        panel.set_yscale("log")
        frequencies = [finding.prevalence for finding in findings]
        panel.set_xlim(min(frequencies) / 1.7, min(1.1, max(frequencies) * 1.7))
        panel.set_ylim(floor * 0.93, ceiling)
        panel.axvspan(panel.get_xlim()[0], numbers.tail.rare_below, color="#f0e6d6", alpha=0.5, linewidth=0, zorder=0)
        _format_ratio_axes(panel)
        panel.set_xlabel("frequency in the corpus (shaded: rare)")
        panel.set_ylabel("kept prevalence / corpus prevalence")
        # Names are placed by what overlaps on paper, so the layout must be settled first.
        figure.draw_without_rendering()
        told = [finding for finding in findings if finding.low > 1 or finding.high < 1]
        told = sorted(told, key=lambda finding: -abs(np.log(max(finding.ratio, floor))))[:_NAMES_SHOWN]
        clusters = {finding.name: [(finding.prevalence, max(finding.ratio, floor))] for finding in told}
        name_clusters(panel, clusters, [verdict_colour(finding) for finding in told])
        return _to_svg(figure)


def _format_ratio_axes(panel: Axes) -> None:
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(FixedLocator([tick for tick in _RATIO_TICKS if low <= tick <= high]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(NullLocator())
    panel.tick_params(axis="x", labelrotation=30)
    panel.grid(axis="y", alpha=0.25)


def draw_map(features: FeatureMap, roles: Mapping[Role, str]) -> str:
    """The sampled pairs by role, named by the words of `roles`, and the prototypes, in the plane of the map."""
    with plt.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(_WIDTH, 5.0), layout="constrained")
        for role, words in roles.items():
            points = features.points[features.roles == role]
            colour, mark, size = _ROLE_STYLES[role]
            # Thousands of marks as one picture: the page stays small.
            panel.scatter(*points.T, s=size, c=colour, marker=mark, linewidths=0.9 if mark == "x" else 0, alpha=0.85,
                          label=f"{words} ({len(points):,})", rasterized=True)  # fmt: skip
        if len(features.prototypes):
            panel.scatter(
                *features.prototypes.T, s=150, c="#ffd24d", marker="*", edgecolors="black", linewidths=0.8,
                label="prototype", zorder=5,
            )  # fmt: skip
        first, second = features.explained
        panel.set_xlabel(f"first principal component ({percent(first, 0)} of the variance)")
        panel.set_ylabel(f"second ({percent(second, 0)})")
        panel.set_xticks([])
        panel.set_yticks([])
        figure.legend(loc="outside upper center", ncols=2, fontsize=8.5)
        return _to_svg(figure)

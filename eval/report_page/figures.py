"""The figures of the results page, as SVG text that stands alone (letters as outlines, nothing fetched)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from eval.records.results import (
    Estimate,
    GroundingResult,
    ProbeResult,
    ProbeShare,
    RetrievalResult,
    Subgroup,
    ZeroShotResult,
)
from eval.scores import ZeroShotScores
from eval.statistics.significance import resample_by_patient
from eval.tasks.calibration import reliability_bins, two_class_softmax

MAIN, OTHER, SOFT = "#1f6f8b", "#c8553d", "#8d959d"
_WIDTH = 7.4
_STYLE = {"font.size": 9, "svg.fonttype": "path", "svg.hashsalt": "results", "axes.spines.top": False}
_STYLE |= {"axes.spines.right": False, "legend.frameon": False, "axes.titlesize": 9.5, "axes.titlelocation": "left"}
#: Curves are plotted for so many findings, the most frequent in the evaluated films, in rows of `_COLUMNS`.
CURVES, _COLUMNS = 9, 3
#: Resamples of the band around a ROC curve.
_BAND_RESAMPLES = 200


def _to_svg(figure: Figure) -> str:
    """The SVG element alone, without the date and the links that matplotlib puts in."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _dots(panel: Axes, named: Sequence[tuple[str, Estimate]], colours: Sequence[str] | None = None) -> None:
    """A dot with its interval for each name, the first on top; what is not defined is said."""
    panel.set_yticks(range(len(named))[::-1], [name for name, _ in named])
    panel.set_ylim(-0.6, len(named) - 0.4)
    for number, (_, estimate) in enumerate(named):
        height = len(named) - 1 - number
        if estimate.value is None:
            panel.text(0.02, height, "not defined", transform=panel.get_yaxis_transform(), color=SOFT, va="center")
            continue
        colour = colours[number] if colours else MAIN
        if estimate.low is not None:
            panel.plot([estimate.low, estimate.high], [height, height], color=colour, linewidth=2.5, alpha=0.4)
        panel.plot(estimate.value, height, "o", color=colour, markersize=5)
    panel.grid(axis="x", alpha=0.25)


def draw_aurocs(result: ZeroShotResult) -> str:
    """AUROC of every finding with its interval, the most frequent (`result.prevalence_from`) on top."""
    labels = sorted(result.labels, key=lambda label: -label.prevalence)
    labels = [label for label in labels if label.auroc.value is not None]
    named = [(f"{label.name}  ({label.prevalence:.1%}, n = {label.positives:,})", label.auroc) for label in labels]
    with plt.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(_WIDTH, 0.9 + 0.24 * len(named)), layout="constrained")
        _dots(panel, named, [OTHER if label.rare else MAIN for label in labels])
        panel.axvline(0.5, color=SOFT, linewidth=1, linestyle=":")
        if result.macro.value is not None:
            panel.axvline(result.macro.value, color=MAIN, linewidth=1, linestyle="--")
        panel.set_xlabel("AUROC with 95 % interval by patient (dashed: mean; dotted: chance)")
        return _to_svg(figure)


def _frequent(scores: ZeroShotScores) -> list[int]:
    """Columns of the labels to plot: both classes there, most positives first."""
    positives = np.nansum(scores.targets, axis=0)
    negatives = (scores.targets == 0).sum(axis=0)
    order = np.argsort(-positives, kind="stable")
    return [int(column) for column in order if positives[column] > 0 and negatives[column] > 0][:CURVES]


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    rows = -(-count // _COLUMNS)
    figure, panels = plt.subplots(
        rows, _COLUMNS, figsize=(_WIDTH, 0.35 + 2.35 * rows), sharex=True, sharey=True, layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for panel in panels.flat[count:]:
        panel.set_visible(False)
    return figure, list(panels.flat[:count])


def roc_points(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Sensitivity [R, k] at the false positive rates `grid` [k] under each row of `weights` [R, n].

    `scores` and `targets` (0 or 1) are [n]; equal scores are one step of the curve. NaN where a class has no weight.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    positive = targets[order] > 0
    points = np.full((len(weights), len(grid)), np.nan)
    for row, weight in enumerate(weights[:, order]):
        true, false = np.cumsum(weight * positive)[last], np.cumsum(weight * ~positive)[last]
        if true[-1] > 0 and false[-1] > 0:
            points[row] = np.interp(grid, np.append(0, false / false[-1]), np.append(0, true / true[-1]))
    return points


def draw_roc(result: ZeroShotResult, scores: ZeroShotScores) -> str | None:
    """ROC curves of the most frequent findings with a pointwise 95 % band by patient, and the chosen threshold."""
    columns, grid = _frequent(scores), np.linspace(0, 1, 101)
    if not columns:
        return None
    by_name = {label.name: label for label in result.labels}
    with plt.rc_context(_STYLE):
        figure, panels = _grid(len(columns))
        for panel, column in zip(panels, columns, strict=True):
            films = np.isfinite(scores.targets[:, column])
            curve = partial(roc_points, scores.scores[films, column], scores.targets[films, column], grid=grid)
            points = resample_by_patient(curve, scores.patients[films], _BAND_RESAMPLES, 0)
            if np.isfinite(points[1:]).any():
                low, high = np.nanquantile(points[1:], [0.025, 0.975], axis=0)
                panel.fill_between(grid, low, high, color=MAIN, alpha=0.18, linewidth=0)
            panel.plot(grid, points[0], color=MAIN, linewidth=1.6)
            panel.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
            label = by_name[scores.names[column]]
            if label.threshold is not None and label.threshold.sensitivity.value is not None:
                place = 1 - label.threshold.specificity.value, label.threshold.sensitivity.value
                panel.plot(*place, "o", color=OTHER, markersize=5)
            low, high = label.auroc.low, label.auroc.high
            panel.set_title(
                f"{label.name}\n{label.auroc.value:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None else "")
            )
            panel.set_aspect("equal")
            panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        figure.supxlabel("false positive rate", fontsize=9)
        figure.supylabel("sensitivity", fontsize=9)
        return _to_svg(figure)


def draw_reliability(result: ZeroShotResult, scores: ZeroShotScores) -> str | None:
    """How often a finding is present among films of a given softmax; below, how many films have that softmax."""
    columns = _frequent(scores)
    by_name = {label.name: label for label in result.labels}
    if not columns:
        return None
    with plt.rc_context(_STYLE):
        figure, panels = _grid(len(columns))
        for panel, column in zip(panels, columns, strict=True):
            films = np.isfinite(scores.targets[:, column])
            bins = reliability_bins(two_class_softmax(scores.scores[films, column]), scores.targets[films, column])
            said, found, count = bins.T
            edges = np.arange(len(count)) / len(count)
            panel.bar(edges, 0.35 * count / count.max(), 1 / len(count), align="edge", color=SOFT, alpha=0.35)
            panel.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
            filled = count > 0
            panel.plot(said[filled], found[filled], color=MAIN, linewidth=1, alpha=0.6)
            panel.scatter(said[filled], found[filled], s=8 + 50 * count[filled] / count.max(), color=MAIN, zorder=3)
            known = by_name[scores.names[column]].calibration
            panel.set_title(scores.names[column] + (f"\nbinary ECE {known.ece:.2f}" if known else ""))
            panel.set_aspect("equal")
            panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        figure.supxlabel("softmax of the positive against the negative prompt", fontsize=9)
        figure.supylabel("share of films with the finding", fontsize=9)
        return _to_svg(figure)


def draw_recall(result: RetrievalResult) -> str:
    """R@k in both directions with intervals, and what a random order would give."""
    directions = {"film to text": result.image_to_text, "text to film": result.text_to_image}
    with plt.rc_context(_STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(_WIDTH, 1.6), sharex=True, layout="constrained")
        for panel, (name, direction) in zip(panels, directions.items(), strict=True):
            _dots(panel, [(f"R@{k}", estimate) for k, estimate in direction.r_at.items()])
            for number, chance in enumerate(direction.chance.values()):
                panel.plot(
                    chance, len(direction.chance) - 1 - number, "|", color=OTHER, markersize=11, markeredgewidth=1.8
                )
            panel.set_title(f"{name}: {direction.queries:,} queries, {direction.candidates:,} candidates")
            panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
            panel.set_xlim(left=0)
        return _to_svg(figure)


def draw_label_shares(result: ProbeResult) -> str:
    """Macro AUROC by share of the training labels: every sample, and the mean with its interval by patient.

    A line joins shares whose mean is of the same labels: with few films some labels cannot be fitted.
    """
    shares = [share for share in result.shares if share.macro.value is not None]
    fitted = [{label.name for label in share.labels if None not in label.auroc_by_seed} for share in shares]
    with plt.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(_WIDTH, 2.6), layout="constrained")
        for number, share in enumerate(shares):
            if share.macro.low is not None:
                panel.plot([number] * 2, [share.macro.low, share.macro.high], color=MAIN, linewidth=2.5, alpha=0.4)
            panel.plot(number, share.macro.value, "o", color=MAIN, markersize=6)
            samples = [value for value in share.macro_by_seed if value is not None]
            panel.plot([number] * len(samples), samples, "_", color=OTHER, markersize=9)
            if number and fitted[number] == fitted[number - 1]:
                before = shares[number - 1].macro.value
                panel.plot([number - 1, number], [before, share.macro.value], color=MAIN, linewidth=1, alpha=0.5)
        names = [
            f"{_share_name(share)}mean of {len(labels)} findings" for share, labels in zip(shares, fitted, strict=True)
        ]
        panel.set_xticks(range(len(shares)), names)
        panel.set_xlim(-0.5, len(shares) - 0.5)
        panel.set_ylabel("macro AUROC")
        panel.grid(axis="y", alpha=0.25)
        return _to_svg(figure)


def _share_name(share: ProbeShare) -> str:
    """How much was trained on; of a trained head that may not be recorded."""
    labels = "trained head" if share.label_share is None else f"{100 * share.label_share:g} % of labels"
    films = f"{share.training_films[0]:,} films, " if share.training_films else ""
    return f"{labels}\n{films}"


def draw_dice(dices: Mapping[str, np.ndarray], structures: Sequence[str]) -> str:
    """Dice of every film by structure and decoder: films as dots, the middle half as a line, the median as a stroke.

    `dices` are [films, structures] by decoder.
    """
    named = [(f"{structure}, {decoder}", values[:, number], colour)
             for number, structure in enumerate(structures)
             for (decoder, values), colour in zip(dices.items(), (SOFT, MAIN, OTHER), strict=False)]  # fmt: skip
    with plt.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(_WIDTH, 0.8 + 0.36 * len(named)), layout="constrained")
        generator = np.random.default_rng(0)
        for number, (_, values, colour) in enumerate(named):
            values, height = values[np.isfinite(values)], len(named) - 1 - number
            if not len(values):
                continue
            spread = generator.uniform(-0.22, 0.22, len(values))
            panel.plot(
                values, height + spread, ".", color=colour, markersize=3, alpha=0.5, rasterized=len(values) > 2000
            )
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            panel.plot([low, high], [height, height], color="black", linewidth=2)
            panel.plot([middle, middle], [height - 0.3, height + 0.3], color="black", linewidth=2)
        panel.set_yticks(range(len(named))[::-1], [name for name, _, _ in named])
        panel.set_xlabel("Dice of each film that has the structure")
        panel.set_xlim(right=1.01)
        panel.grid(axis="x", alpha=0.25)
        return _to_svg(figure)


def draw_subgroups(groups: Sequence[Subgroup], metric: str, whole: Estimate) -> str:
    """The metric in every group of films with its interval, and of how many labels it is a mean; dashed: all films."""
    named = []
    for group in groups:
        labels = "" if group.labels is None else f", mean of {group.labels}"
        named.append((f"{group.attribute}: {group.value}  (n = {group.films:,}{labels})", group.estimate))
    with plt.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(_WIDTH, 0.8 + 0.26 * len(named)), layout="constrained")
        _dots(panel, named)
        if whole.value is not None:
            panel.axvline(whole.value, color=SOFT, linewidth=1, linestyle="--")
        panel.set_xlabel(f"{metric} (dashed: all films)")
        return _to_svg(figure)


def draw_pointing(result: GroundingResult) -> str:
    """The pointing game of every finding, the smallest regions on top; marks: what baseline maps get."""
    findings = sorted(result.findings, key=lambda one: one.region_share)
    named = [
        (f"{one.name}  ({one.region_share:.1%}, n = {one.pairs:,})", one.scores["model"].pointing) for one in findings
    ]
    with plt.rc_context(_STYLE):
        figure, panel = plt.subplots(figsize=(_WIDTH, 0.9 + 0.24 * len(named)), layout="constrained")
        _dots(panel, named, [MAIN if one.focal else SOFT for one in findings])
        for name, mark in (("centre map", "|"), ("random map", "x"), ("another finding", "+")):
            if name not in findings[0].scores:
                continue
            values = [one.scores[name].pointing.value for one in findings]
            panel.plot(values, range(len(named))[::-1], mark, color=OTHER, markersize=6, label=name, linestyle="none")
        panel.set_xlim(-0.02, 1.02)
        panel.set_xlabel("pointing game with 95 % interval by patient")
        panel.legend(loc="lower right")
        return _to_svg(figure)


def draw_texts(rouge: np.ndarray, words: np.ndarray, reference_words: np.ndarray) -> str:
    """How ROUGE-L is distributed over the reports, and how long generated and written reports are."""
    with plt.rc_context(_STYLE):
        figure, (scores, lengths) = plt.subplots(1, 2, figsize=(_WIDTH, 2.2), layout="constrained")
        scores.hist(rouge, bins=np.linspace(0, 1, 21), color=MAIN, alpha=0.8)
        scores.set(xlabel="ROUGE-L", ylabel="reports")
        bins = np.linspace(0, max(words.max(), reference_words.max(), 1), 21)
        lengths.hist(reference_words, bins=bins, color=SOFT, alpha=0.6, label="written")
        lengths.hist(words, bins=bins, histtype="step", color=MAIN, linewidth=1.8, label="generated")
        lengths.set(xlabel="words")
        lengths.legend()
        return _to_svg(figure)

"""Pictures of results."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from eval.records.results import ZeroShotResult
from eval.tables import format_estimate

_COMMON, _RARE = "#1f6f8b", "#c8553d"


def plot_zero_shot(result: ZeroShotResult, path: Path) -> None:
    """AUROC of every finding with its interval, most frequent on top, rare findings in another colour."""
    labels = sorted(
        (finding for finding in result.labels if finding.auroc.value is not None),
        key=lambda finding: finding.prevalence,
    )
    figure, axes = plt.subplots(figsize=(8.5, max(3.2, 1.6 + 0.3 * len(labels))), layout="constrained")
    for height, label in enumerate(labels):
        colour = _RARE if label.rare else _COMMON
        if label.auroc.low is not None:
            axes.plot([label.auroc.low, label.auroc.high], [height, height], color=colour, linewidth=2, alpha=0.5)
        axes.plot(label.auroc.value, height, "o", color=colour, markersize=6)
    names = [f"{finding.name}  ({finding.prevalence:.1%}, n = {finding.positives})" for finding in labels]
    axes.set_yticks(range(len(labels)), names)
    axes.axvline(0.5, color="grey", linewidth=1, linestyle=":")
    groups = [("common", result.macro_common, _COMMON), ("rare", result.macro_rare, _RARE)]
    for name, estimate, colour in groups:
        if estimate.value is not None:
            axes.axvline(
                estimate.value, color=colour, linewidth=1, linestyle="--", label=f"{name} {estimate.value:.3f}"
            )
    lowest = [bound for finding in labels for bound in (finding.auroc.value, finding.auroc.low) if bound is not None]
    axes.set_xlim(min([0.45, *lowest]) - 0.02, 1.01)
    axes.set_xlabel("AUROC with 95 % interval by patient")
    axes.set_ylabel(f"finding (share of {result.prevalence_from} films, n positive)")
    partial = ", PARTIAL" if result.provenance.limited else ""
    axes.set_title(
        f"Zero-shot, macro AUROC {format_estimate(result.macro)}, {result.provenance.films:,} films{partial}"
    )
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, title="macro mean")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)

"""Several models on the same films: is one better, or is it these patients' chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.records.results import ProbeResult, ZeroShotResult, load_result
from eval.scores import ZeroShotScores, scores_path
from eval.statistics.significance import ModelDifference, compare_models
from eval.tables import format_estimate


@dataclass
class PairedDifference:
    """A benchmark's AUROCs of the model `first` minus those of `second`, label by label and their mean.

    `difference` is None where they cannot be compared; `reason` says why.
    """

    benchmark: str
    benchmark_version: int
    first: str
    second: str
    difference: ModelDifference | None
    reason: str | None = None


def compare_results(first: Path, second: Path, resamples: int, seed: int) -> PairedDifference:
    """Compare two result files that keep scores (zero-shot or probe) film by film.

    Raises:
        ValueError: a file keeps no scores, or they are of different benchmarks or versions, labels, films or settings.
    """
    results = [load_result(path) for path in (first, second)]
    for path, result in zip((first, second), results, strict=True):
        if not isinstance(result, ZeroShotResult | ProbeResult) or result.scores_sha256 is None:
            raise ValueError(f"{path} keeps no scores of single films to compare by")
    first_result, second_result = results
    for name, values in {
        "benchmark": (first_result.benchmark, second_result.benchmark),
        "benchmark version": (first_result.benchmark_version, second_result.benchmark_version),
        "data": (first_result.provenance.dataset_fingerprint, second_result.provenance.dataset_fingerprint),
        "settings": (first_result.provenance.settings, second_result.provenance.settings),
    }.items():
        if values[0] != values[1]:
            raise ValueError(f"{first} and {second} cannot be compared: they differ in {name}: {values}")
    scores = [
        ZeroShotScores.load(scores_path(path), result.scores_sha256)
        for path, result in zip((first, second), results, strict=True)
    ]
    if scores[0].names != scores[1].names or not np.array_equal(scores[0].targets, scores[1].targets, equal_nan=True):
        raise ValueError(f"{first} and {second} cannot be compared: they evaluated other labels")
    difference = compare_models(
        scores[0].names, scores[0].scores, scores[1].scores, scores[0].targets, scores[0].patients, resamples, seed
    )
    models = first_result.provenance.model, second_result.provenance.model
    return PairedDifference(first_result.benchmark, first_result.benchmark_version, *models, difference)


def compare_folders(folders: Sequence[Path], resamples: int, seed: int) -> list[PairedDifference]:
    """Every benchmark that the first folder and another both evaluated and keep scores of, first minus other.

    Old results lie there, too: a pair that cannot be compared says why, and costs the others nothing.
    """
    differences = []
    for path in sorted(folders[0].glob("*.json")):
        if not scores_path(path).is_file():
            continue
        others = [folder / path.name for folder in folders[1:] if scores_path(folder / path.name).is_file()]
        differences += [_try_compare(path, rival, resamples, seed) for rival in others]
    return differences


def _try_compare(first: Path, second: Path, resamples: int, seed: int) -> PairedDifference:
    try:
        return compare_results(first, second, resamples, seed)
    except ValueError as error:
        return PairedDifference(first.stem, 0, str(first.parent), str(second.parent), None, str(error))


def format_differences(differences: Sequence[PairedDifference]) -> str:
    """A Markdown table with a row for each benchmark and pair of models."""
    lines = [
        "| benchmark | first | second | macro AUROC, first minus second | p | labels that differ (DeLong, Holm) |",
        "|---|---|---|---|---:|---|",
    ]
    for pair in differences:
        if pair.difference is None:
            lines.append(f"| {pair.benchmark} | {pair.first} | {pair.second} | not compared: {pair.reason} | - | - |")
            continue
        found = [label.name for label in pair.difference.labels if label.p_holm is not None and label.p_holm < 0.05]
        p_value = pair.difference.macro_p_value
        cells = [pair.benchmark, pair.first, pair.second, format_estimate(pair.difference.macro)]
        cells += ["-" if p_value is None else f"{p_value:.3f}", ", ".join(found) or "none"]
        lines.append(f"| {' | '.join(cells)} |")
    notes = (
        "95 % interval and p of the mean: paired bootstrap by patient; it covers the choice of patients alone. Holm's "
        "correction is over the labels of a row, neither over benchmarks nor over models; p of the mean is uncorrected."
    )
    return "\n".join([*lines, "", notes])

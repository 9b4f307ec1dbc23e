"""Evaluated runs: what was done (`run.json`), how it was evaluated, and what its figures are made of film by film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eval.artifacts import load_artifact
from eval.benchmarks import RARE_BELOW
from eval.records.results import ProbeResult, SegmentationResult, TaskResult, ZeroShotResult, load_result
from eval.records.runs import AdaptRun, PretrainRun, Run
from eval.scores import ZeroShotScores, scores_path
from eval.statistics.metrics import macro_mean, macro_means
from eval.statistics.ranked_labels import RankedLabels
from eval.tasks.dice import weighted_means
from modeling_chexficient.base_identity_chexficient import weights_sha256

#: The benchmark that evaluates a pretraining, if none is named.
_OF_PRETRAINING = "zero_shot_findings"
_AGAIN = "evaluate the run again with `python -m eval.run --again True`"

#: Figures by name, each [R], under weights [R, films]: how often each film counts.
Figures = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class JudgedRun:
    """One run and its result on one benchmark.

    Args:
        names: labels or structures.
        patients: [films], numbers.
        targets: [films, names], what was evaluated and, of findings, the answer (NaN: not judged).
        figures: "macro", and of a pretraining "macro_common" and "macro_rare".
        rare: findings that are rare in training; to a probe, which is not told, among the evaluated films.
    """

    folder: Path
    record: PretrainRun | AdaptRun
    result: TaskResult
    names: list[str]
    patients: np.ndarray
    targets: np.ndarray
    figures: Figures
    rare: list[str] = field(default_factory=list)

    @property
    def seed(self) -> int:
        return self.record.seed

    @property
    def label_share(self) -> float | None:
        """Share of the training patients whose labels were used; None of a pretraining."""
        return self.record.label_share if isinstance(self.record, AdaptRun) else None

    @property
    def level(self) -> float | None:
        """What runs of one arm are told apart by, and set against each other at: the share of the labels of an
        adaptation, of a pretraining what it was allowed to cost (`compute_passes`; None where nothing was said).
        """
        return self.label_share if isinstance(self.record, AdaptRun) else self.record.settings.get("compute_passes")

    @property
    def prompts(self) -> str | None:
        return self.result.prompts if isinstance(self.result, ZeroShotResult) else None

    @property
    def flops(self) -> dict[str, float] | None:
        """Counted operations of training and scoring ("trained", "scored", "total"); None in runs that counted none."""
        flops = self.record.flops
        if flops is None or not flops.total:
            return None
        return {"trained": flops.trained, "scored": flops.scored, "total": flops.total}


def load_judged(folder: Path, benchmark: str | None) -> JudgedRun:
    """A run folder: `run.json`, the weights, `results/BENCHMARK.json` and what it keeps of single films.

    Args:
        benchmark: None: zero-shot findings of a pretraining, the only one of an adaptation.

    Raises:
        ValueError: something is missing or does not belong to the rest, or the task keeps no figures of single films.
    """
    record = Run.load(folder)
    path = _result_path(folder, benchmark or (_OF_PRETRAINING if isinstance(record, PretrainRun) else None))
    result = load_result(path)
    check_weights(folder, path, result)
    if isinstance(result, ZeroShotResult) or (isinstance(result, ProbeResult) and isinstance(record, PretrainRun)):
        scores = film_scores(result, path)
        rare = _rare_findings(result, scores)
        names = [name for name, is_rare in zip(scores.names, rare, strict=True) if is_rare]
        return JudgedRun(folder, record, result, *findings_by_film(scores, rare), names)
    # A head of its own: neither a probe nor a decoder was fitted.
    if isinstance(result, ProbeResult) and result.features is None:
        return JudgedRun(folder, record, result, *findings_by_film(film_scores(result, path)))
    if isinstance(result, SegmentationResult) and not result.decoders:
        return JudgedRun(folder, record, result, *structures_by_film(result, path))
    raise ValueError(f"{path} is a result of {result.task} that keeps no figures of single films of a trained model")


def check_weights(folder: Path, path: Path, result: TaskResult) -> None:
    """Raise ValueError where the weights of a run folder are not those that the result at `path` was measured on."""
    held = [folder / name for name in ("adapter", "model") if (folder / name).is_dir()]
    # A folder that was trained anew still holds the results of the weights before.
    if held and weights_sha256(str(held[0])) not in (None, result.provenance.model_sha256):
        raise ValueError(f"{path} was measured on other weights than those in {held[0]}: {_AGAIN}")


def _result_path(folder: Path, benchmark: str | None) -> Path:
    if benchmark is not None:
        path = folder / "results" / f"{benchmark}.json"
        if not path.is_file():
            raise ValueError(f"{folder} was not evaluated on {benchmark}: {path} is missing")
        return path
    found = sorted((folder / "results").glob("*.json"))
    if len(found) != 1:
        names = [path.stem for path in found]
        raise ValueError(f"{folder} was evaluated on {names or 'nothing'}: name one benchmark with --benchmark")
    return found[0]


def finding_figures(scores: ZeroShotScores, rare: np.ndarray | None = None) -> Figures:
    """Macro AUROC from weights; with `rare` [labels] also those of common and of rare findings."""
    # The first row must be the whole for labels without both classes to stay out everywhere.
    whole, ranked = np.ones((1, len(scores.patients))), RankedLabels(scores.scores, scores.targets)

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        aurocs = ranked.aurocs(np.vstack([whole, weights]))
        means = {"macro": macro_mean(aurocs)} if rare is None else macro_means(aurocs, rare)
        return {name: values[1:] for name, values in means.items()}

    return figures


def film_scores(result: ZeroShotResult | ProbeResult, path: Path) -> ZeroShotScores:
    """The scores beside the result of findings at `path`. Raises ValueError where it keeps none, or other ones."""
    if result.scores_sha256 is None:
        raise ValueError(f"{path} keeps no scores of single films: {_AGAIN}")
    return ZeroShotScores.load(scores_path(path), result.scores_sha256)


def findings_by_film(scores: ZeroShotScores, rare: np.ndarray | None = None) -> tuple:
    """Names, patients, targets and figures (see `JudgedRun`) of a result of findings; `rare` as `finding_figures`."""
    return scores.names, scores.patients, scores.targets, finding_figures(scores, rare)


def _rare_findings(result: ZeroShotResult | ProbeResult, scores: ZeroShotScores) -> np.ndarray:
    """Which findings are rare, bool [labels]."""
    if isinstance(result, ZeroShotResult):
        return np.array([label.rare for label in result.labels])
    return np.nanmean(scores.targets, axis=0) < RARE_BELOW


def structures_by_film(result: SegmentationResult, path: Path, centre_lines: bool = False) -> tuple:
    """Names, patients, targets and figures of the last decoder of a segmentation, from the Dice of single films.

    Args:
        centre_lines: of those of centre lines instead, in the films whose structures are thin.
    """
    decoder = result.decoder
    kind, expected, words = "dice", result.macro_dice[decoder].value, "Dice"
    if centre_lines:
        kind, expected, words = "centre_line_dice", result.centre_line_dice, "centre-line Dice"
    arrays, values = load_artifact(path.parent, path.stem) or ({}, {})
    if f"{kind}_{decoder}" not in arrays or "patients" not in arrays:
        raise ValueError(f"{path} keeps no {words} of single films: {_AGAIN}")
    dices = arrays[f"{kind}_{decoder}"].astype(float)
    count = len(values["structures"])

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"macro": weighted_means(weighted_means(dices, weights).T, np.ones((1, count)))[0]}

    found = figures(np.ones((1, len(dices))))["macro"][0]
    if not np.isclose(found, np.nan if expected is None else expected, atol=1e-5, equal_nan=True):
        raise ValueError(f"the {words} of single films beside {path} do not belong to it: {_AGAIN}")
    return values["structures"], arrays["patients"], np.isfinite(dices), figures

"""Finished and judged runs of `train.adapt`, checked to be of one question before their figures meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.artifacts import load_artifact
from eval.metrics import label_aurocs, macro_mean
from eval.records.results import ProbeResult, SegmentationResult, TaskResult, load_result
from eval.records.runs import RUN_FILE, AdaptRun, adaptation_behind, weights_folder
from eval.scores import ZeroShotScores, scores_path
from eval.studies.runs import check_settings
from eval.tasks.dice import weighted_means
from modeling_chexficient.base_identity_chexficient import weights_sha256

_AGAIN = "judge the run again with `python -m eval.run --again True`"
#: Settings that tell runs of one kind apart without making another kind of them.
_OF_ONE_RUN = {"output_dir", "seed", "data_seed", "run_name", "logging_dir", "label_share", "method"}


@dataclass(frozen=True)
class AdaptedRun:
    """One run: what was done (`run.json`), how it was judged, and what its figure is made of film by film.

    Args:
        names: labels or structures.
        patients: [films], numbers.
        truth: [films, names], what was judged and, of findings, the answer.
        macro: the figure, from weights [R, films] to [R].
    """

    folder: Path
    record: AdaptRun
    result: TaskResult
    names: list[str]
    patients: np.ndarray
    truth: np.ndarray
    macro: Callable[[np.ndarray], np.ndarray]

    @property
    def seed(self) -> int:
        return self.record.seed

    @property
    def label_share(self) -> float:
        return self.record.label_share

    def kind(self, by: Sequence[str]) -> str:
        """The method and, in brackets, the settings named in `by`."""
        settings = self.record.settings
        told = "; ".join(f"{name}: {settings.get(name)}" for name in by)
        return f"{self.record.method} ({told})" if told else self.record.method


def load_run(folder: Path, benchmark: str | None) -> AdaptedRun:
    """A run folder: `run.json`, the weights, and `results/BENCHMARK.json` with its scores of single films.

    Args:
        benchmark: None: the only one it was judged on.

    Raises:
        ValueError: something is missing or does not belong to the rest, or the task keeps no figures of single films.
    """
    record = adaptation_behind(str(folder / "results")) if (folder / RUN_FILE).is_file() else None
    if record is None:
        raise ValueError(f"{folder} is no finished run of train.adapt: it has no {RUN_FILE} that tells a method")
    path = _result_path(folder, benchmark)
    result = load_result(path)
    if weights_sha256(weights_folder(str(folder))) != result.provenance.model_sha256:
        raise ValueError(f"{path} was measured on other weights than those in {folder}: {_AGAIN}")
    # A head of its own: neither a probe nor a decoder was fitted.
    if isinstance(result, ProbeResult) and result.features is None:
        return AdaptedRun(folder, record, result, *_of_findings(result, path))
    if isinstance(result, SegmentationResult) and not result.decoders:
        return AdaptedRun(folder, record, result, *_of_structures(result, path))
    raise ValueError(f"{path} is a result of {result.task} that keeps no figures of single films of an adapted model")


def _result_path(folder: Path, benchmark: str | None) -> Path:
    if benchmark is not None:
        path = folder / "results" / f"{benchmark}.json"
        if not path.is_file():
            raise ValueError(f"{folder} was not judged on {benchmark}: there is no {path}")
        return path
    found = sorted((folder / "results").glob("*.json"))
    if len(found) != 1:
        names = [one.stem for one in found]
        raise ValueError(f"{folder} was judged on {names or 'nothing'}: name one benchmark with --benchmark")
    return found[0]


def _of_findings(result: ProbeResult, path: Path) -> tuple:
    if result.scores_sha256 is None:
        raise ValueError(f"{path} keeps no scores of single films: {_AGAIN}")
    scores = ZeroShotScores.load(scores_path(path), result.scores_sha256)

    def macro(weights: np.ndarray) -> np.ndarray:
        # The first row must be the whole for labels without both classes to stay out everywhere.
        whole = np.ones((1, len(scores.patients)))
        return macro_mean(label_aurocs(scores.scores, scores.targets, np.vstack([whole, weights])))[1:]

    return scores.names, scores.patients, scores.targets, macro


def _of_structures(result: SegmentationResult, path: Path) -> tuple:
    artifact, (decoder, expected) = load_artifact(path.parent, path.stem), list(result.macro_dice.items())[-1]
    arrays, values = artifact or ({}, {})
    if f"dice_{decoder}" not in arrays or "patients" not in arrays:
        raise ValueError(f"{path} keeps no Dice of single films: {_AGAIN}")
    dices, count = arrays[f"dice_{decoder}"].astype(float), len(values["structures"])

    def macro(weights: np.ndarray) -> np.ndarray:
        return weighted_means(weighted_means(dices, weights).T, np.ones((1, count)))[0]

    found = macro(np.ones((1, len(dices))))[0]
    if not np.isclose(found, np.nan if expected.value is None else expected.value, atol=1e-5, equal_nan=True):
        raise ValueError(f"the Dice of single films beside {path} do not belong to it: {_AGAIN}")
    return values["structures"], arrays["patients"], np.isfinite(dices), macro


def load_runs(folders: Sequence[Path], benchmark: str | None, by: Sequence[str] = ()) -> list[AdaptedRun]:
    """The runs in the order of `folders`.

    Args:
        by: settings that make another kind of a run, beside the method; such runs may be trained on other films.

    Raises:
        ValueError: see `load_run`; or two runs, which are named, are not of the same question: another benchmark or
            version of it, other films, labels or base, other training films for one share and seed; or they are the
            same method, share and seed.
    """
    runs = [load_run(folder, benchmark) for folder in folders]
    first, seen, trained = runs[0], {}, {}
    for run in runs:
        for name, one, other in (
            ("benchmark", first.result.benchmark, run.result.benchmark),
            ("benchmark version", first.result.benchmark_version, run.result.benchmark_version),
            ("judged films", first.result.provenance.dataset_fingerprint, run.result.provenance.dataset_fingerprint),
            ("number of judged films", len(first.patients), len(run.patients)),
            ("labels or structures", first.names, run.names),
            ("weights of the base", first.record.base["weights_sha256"], run.record.base["weights_sha256"]),
        ):
            if one != other:
                raise ValueError(
                    f"{first.folder} and {run.folder} cannot be compared: they differ in {name}: {one} and {other}"
                )
        for name in ("patients", "truth"):
            if not np.array_equal(getattr(first, name), getattr(run, name), equal_nan=name == "truth"):
                raise ValueError(f"{first.folder} and {run.folder} cannot be compared: their {name} differ")
        beside = trained.setdefault((run.label_share, run.seed), run)
        for name in ("train_films", "train_patients", "sources"):
            if not by and getattr(run.record, name) != getattr(beside.record, name):
                raise ValueError(
                    f"{beside.folder} and {run.folder} cannot be compared: of one share and seed, they differ in "
                    f"{name}: {getattr(beside.record, name)} and {getattr(run.record, name)}"
                )
        same = seen.setdefault((run.kind(by), run.label_share, run.seed), run)
        if same is not run:
            raise ValueError(f"{same.folder} and {run.folder} are of the same method, label share and seed")
    return runs


def group_runs(runs: Sequence[AdaptedRun], by: Sequence[str] = ()) -> dict[tuple[str, float], list[AdaptedRun]]:
    """Runs by seed for each kind and label share.

    Raises:
        ValueError: runs of one group differ in settings other than the seed.
    """
    groups: dict[tuple[str, float], list[AdaptedRun]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        groups.setdefault((run.kind(by), run.label_share), []).append(run)
    for members in groups.values():
        check_settings([run.folder for run in members], [_setting(run) for run in members], "kind of run")
    return groups


def _setting(run: AdaptedRun) -> dict:
    return {name: value for name, value in run.record.settings.items() if name not in _OF_ONE_RUN}

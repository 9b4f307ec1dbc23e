"""Finished and judged runs as arms: the runs that differ in nothing but their seed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np

from eval.records.results import ZeroShotResult
from eval.scores import ZeroShotScores, scores_path
from modeling_chexficient.base_identity_chexficient import weights_sha256

#: The macro means that are compared; the names are fields of ZeroShotResult.
GROUPS = {"macro": "all findings", "macro_common": "common findings", "macro_rare": "rare findings"}
#: Settings that make a variant of a selection, and how the name of an arm says so.
_VARIANTS = {
    "score_image_size": "scored at {} px",
    "low_resolution_size": "first trained at {} px",
    "low_resolution_share": "low-resolution share {}",
}

#: How the name of an arm says other settings that arms are told apart by; those not listed come by their name.
_WORDS = {"num_train_epochs": "passes: {}"}


@dataclass(frozen=True)
class Run:
    """One run: what was done (`run.json` of train.pretrain), how it was judged, and the scores of every film."""

    folder: Path
    done: dict
    result: ZeroShotResult
    scores: ZeroShotScores

    @property
    def seed(self) -> int:
        return self.done["seed"]

    @property
    def flops(self) -> dict[str, float] | None:
        """Counted operations of training and scoring ("trained", "scored", "total"); None in runs that counted none."""
        flops = self.done.get("flops")
        return flops if flops and flops["total"] else None


def load_run(folder: Path, benchmark: str) -> Run:
    """A run folder: `run.json`, `results/BENCHMARK.json` and its scores.

    Raises:
        ValueError: one of them is missing or does not belong to the others.
    """
    files = folder / "run.json", folder / "results" / f"{benchmark}.json"
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise ValueError(f"{folder} is not a judged run: {', '.join(missing)} missing")
    done, result = json.loads(files[0].read_text()), ZeroShotResult.load(files[1])
    again = "judge the run again with `python -m eval.run`"
    if result.scores_sha256 is None:
        raise ValueError(f"{files[1]} is of an older version that kept no scores of single films: {again}")
    # A folder that was trained anew still holds the results of the weights before.
    if weights_sha256(str(folder / "model")) not in (None, result.provenance.model_sha256):
        raise ValueError(f"{files[1]} was measured on other weights than those in {folder / 'model'}: {again}")
    return Run(folder, done, result, ZeroShotScores.load(scores_path(files[1]), result.scores_sha256))


def load_runs(folders: Sequence[Path], benchmark: str) -> list[Run]:
    """The runs in the order of `folders`.

    Raises:
        ValueError: a folder is no judged run (see `load_run`), or the runs were not judged in the same way on the same
            films.
    """
    runs = [load_run(folder, benchmark) for folder in folders]
    for name, values in {
        "benchmark version": {run.result.benchmark_version for run in runs},
        "prompts": {run.result.prompts for run in runs},
        "number of films": {run.result.provenance.films for run in runs},
        "data": {run.result.provenance.dataset_fingerprint for run in runs},
        "findings or in which are rare": {str([(one.name, one.rare) for one in run.result.labels]) for run in runs},
    }.items():
        if len(values) > 1:
            raise ValueError(f"the runs cannot be compared: they differ in {name}: {sorted(map(str, values))}")
    for run in runs[1:]:
        for name in ("targets", "patients"):
            if not np.array_equal(getattr(run.scores, name), getattr(runs[0].scores, name), equal_nan=True):
                raise ValueError(f"{run.folder} cannot be compared with {runs[0].folder}: their {name} differ")
    return runs


def arm_name(done: dict, by: Sequence[str] = ()) -> str:
    """Selection, kept share and variant, such as "quantile 22.7% (scored at 56 px)".

    Args:
        done: what `run.json` holds.
        by: further settings, or entries of `run.json` such as "steps", that tell arms apart; settings are named where
            they differ from their default.
    """
    if done["selection"] == "none":
        name = "full data"
    elif done["keep_share_asked"]:
        name = f"{done['selection']} {done['keep_share_asked']:.1%}"
    else:
        name = f"{done['selection']} (published constants)"
    words = _VARIANTS | {setting: _WORDS.get(setting, f"{setting} {{}}") for setting in by}
    values = {setting: done["settings"].get(setting, done.get(setting)) for setting in words}
    notes = [words[setting].format(_as_text(value)) for setting, value in values.items() if value is not None]
    return f"{name} ({'; '.join(notes)})" if notes else name


def _as_text(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def group_by_arm(runs: Sequence[Run], by: Sequence[str] = ()) -> dict[str, list[Run]]:
    """Runs of each arm by seed, the arm with the best mean first.

    Raises:
        ValueError: two runs of an arm differ in more than the seed, or not even in that.
    """
    arms = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.seed):
        arms[arm_name(run.done, by)].append(run)
    for name, members in arms.items():
        if len({run.seed for run in members}) < len(members):
            raise ValueError(f"{name!r} holds runs with the same seed: {[str(run.folder) for run in members]}")
        check_settings([run.folder for run in members], [_setting(run) for run in members], "arm")
    return dict(sorted(arms.items(), key=lambda item: -mean(values_of(item[1], "macro"))))


def check_settings(folders: Sequence[Path], settings: Sequence[dict], kind: str) -> None:
    """Raise ValueError naming what differs between the settings of runs that should differ in the seed alone."""
    for folder, other in zip(folders[1:], settings[1:], strict=True):
        different = sorted(key for key in {*settings[0], *other} if settings[0].get(key) != other.get(key))
        if different:
            raise ValueError(
                f"{folders[0]} and {folder} differ in more than the seed: {different}; if that makes another {kind}, "
                "say so with --by"
            )


def _setting(run: Run) -> dict:
    """All that must be equal among the runs of an arm; what older runs did not write down is None."""
    names = ("schedule", "corpus_pairs", "corpus_fingerprint", "keep_share_asked")
    return {**run.done["settings"], **{name: run.done.get(name) for name in names}, "seed": None}


def values_of(runs: Sequence[Run], group: str) -> list[float]:
    """Macro AUROC of every run; empty where the group holds no finding that can be judged."""
    values = [getattr(run.result, group).value for run in runs]
    return [] if None in values else values

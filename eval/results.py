"""Typed results as JSON: what was measured, on how many films, with which versions."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eval.metrics import percentile_interval

#: Version of the format of the files; bump when a field changes its meaning.
FORMAT_VERSION = 1
_PACKAGES = ("torch", "transformers", "datasets", "numpy", "scikit-learn", "pillow")


@dataclass
class Estimate:
    """A figure with its 95 % bootstrap interval; None where it is not defined (one class is missing)."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of_resamples(cls, values: np.ndarray) -> Estimate:
        """The first of `values` [1 + resamples] is the figure itself, the others its resamples."""
        if np.isnan(values[0]):
            return cls(None, None, None)
        return cls(float(values[0]), *percentile_interval(values[1:]))


@dataclass
class LabelResult:
    """One finding: its AUROC, how many films were judged, how many have it, and how frequent it is in training."""

    name: str
    auroc: Estimate
    films: int
    positives: int
    prevalence: float
    rare: bool


@dataclass
class Provenance:
    """What is needed to know what a figure means, and to get it again."""

    model: str
    model_sha256: str | None
    dataset: str
    dataset_fingerprint: str
    split: str
    films: int
    patients: int
    seed: int
    resamples: int
    limited: bool
    pretraining_sources: list[str]
    seen_sources: list[str]
    git_commit: str | None
    packages: dict[str, str]
    seconds: float


@dataclass
class ZeroShotResult:
    """Zero-shot classification of findings. `macro` leaves out labels without both classes (listed in `undefined`).

    `scores_sha256` is the hash of the file of per-film scores (eval.scores) that belongs to it; None in older results,
    which kept none.
    """

    benchmark: str
    benchmark_version: int
    prompts: str
    macro: Estimate
    macro_common: Estimate
    macro_rare: Estimate
    rare_below: float
    prevalence_from: str
    labels: list[LabelResult]
    undefined: list[str]
    provenance: Provenance
    scores_sha256: str | None = None
    task: str = "zero_shot"
    format_version: int = field(default=FORMAT_VERSION)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_without_nan(dataclasses.asdict(self)), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> ZeroShotResult:
        """Raises ValueError if the file is of another task or format version."""
        values = json.loads(path.read_text())
        if values.get("task") != cls.task or values.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{path}: task {values.get('task')!r}, format {values.get('format_version')!r}; expected "
                f"{cls.task!r}, {FORMAT_VERSION}"
            )
        for name in ("macro", "macro_common", "macro_rare"):
            values[name] = Estimate(**values[name])
        values["labels"] = [LabelResult(**{**one, "auroc": Estimate(**one["auroc"])}) for one in values["labels"]]
        values["provenance"] = Provenance(**values["provenance"])
        return cls(**values)


def _without_nan(value):
    """NaN is not JSON: null instead."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def git_commit() -> str | None:
    """The commit of the checkout this code runs from, with "+changes" if files differ; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def package_versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def weights_sha256(model: str) -> str | None:
    """Hash of the weights of a local model folder; None for a model of the Hub (its id and revision say enough)."""
    files = sorted(Path(model).glob("*.safetensors")) if Path(model).is_dir() else []
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()

"""Where a figure comes from: model, data, settings, code and packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_PACKAGES = ("torch", "transformers", "datasets", "numpy", "scikit-learn", "pillow")


@dataclass
class Provenance:
    """Model, data, chance and versions behind a result.

    `films` and `patients` of `split` were evaluated; `limited` marks a trial on the first films only. `seen_sources`
    are those of the films' sources that the model was trained on. `revision` is the commit of a model of the Hub.
    `settings` holds what else the result depends on (`EvaluationSettings.relevant`), `processes` how many computed it;
    `files_fingerprint` tells whether the prepared folder is still the same (`eval.splits.files_fingerprint`), and
    `processor_sha256` whether films are still shown to the model in the same way (`processor_sha256`). `outputs` names
    the outputs of a trained head in their order, None without one.
    """

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
    revision: str | None = None
    settings: dict = field(default_factory=dict)
    processes: int = 1
    files_fingerprint: str | None = None
    processor_sha256: str | None = None
    outputs: list[str] | None = None


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

"""What is needed to know what a figure means, and to get it again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from accelerate import PartialState
from datasets import Dataset

from eval.benchmarks import Benchmark
from eval.labels import fingerprint
from eval.settings import EvaluationSettings

if TYPE_CHECKING:
    from eval.models import EvaluationModel

_PACKAGES = ("torch", "transformers", "datasets", "numpy", "scikit-learn", "pillow")


@dataclass
class Provenance:
    """Model, data, chance and versions behind a result.

    `films` and `patients` were judged, of `split`; `limited` marks a trial on the first films only. `seen_sources` are
    those of the films' sources that the model was trained on. `revision` is the commit of a model of the Hub.
    `settings` holds what else the result depends on (`EvaluationSettings.relevant`), `processes` how many computed it;
    `files_fingerprint` tells whether the prepared folder is still the same (`eval.splits.files_fingerprint`), and
    `processor_sha256` whether films are still shown to the model in the same way (`processor_sha256`).
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


def describe(benchmark: Benchmark, model: EvaluationModel, films: Dataset, settings: EvaluationSettings) -> Provenance:
    """The provenance of a result on `films`; the folder of the data and the duration are filled in by `eval.run`."""
    trained_on = set(model.pretraining_sources)
    sources = set(films.unique("source")) if "source" in films.column_names else set()
    return Provenance(
        model=model.name,
        model_sha256=model.weights_sha256,
        dataset=benchmark.dataset,
        dataset_fingerprint=films_fingerprint(benchmark, films),
        split=benchmark.split,
        films=len(films),
        patients=len(films.unique("patient_id")),
        seed=settings.seed,
        resamples=settings.resamples,
        limited=settings.limit is not None,
        pretraining_sources=sorted(trained_on),
        seen_sources=sorted((sources | set(benchmark.exposure)) & trained_on),
        git_commit=git_commit(),
        packages=package_versions(),
        seconds=0.0,
        revision=model.revision,
        settings=settings.relevant(benchmark.task),
        processes=PartialState().num_processes,
        processor_sha256=processor_sha256(model),
    )


def films_fingerprint(benchmark: Benchmark, films: Dataset) -> str:
    """Hash of what the task judges against: labels, and the texts where it is about texts."""
    texts = ("findings", "impression") if benchmark.task in ("retrieval", "report_generation") else ()
    return fingerprint(films, ("record_id", "labels", *texts))


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


def processor_sha256(model: EvaluationModel) -> str | None:
    """Hash of how a model's image processor makes pixels: size, crop, mean and the like; None without a processor."""
    processor = getattr(model, "image_processor", None)
    if processor is None:
        return None
    return hashlib.sha256(json.dumps(processor.to_dict(), sort_keys=True, default=str).encode()).hexdigest()

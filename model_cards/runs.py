"""A run that somebody wants to describe or publish: its kind, its record and its results, read once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jinja2 import UndefinedError
from transformers import AutoImageProcessor

from data_scripts.access import PUBLIC
from eval.records.results import TaskResult, load_results
from eval.records.runs import RUN_FILE, AdaptRun, PretrainRun, Run
from model_cards.corpora import access_of
from modeling_chexficient.base_identity_chexficient import weights_sha256
from modeling_chexficient.operating_points_chexficient import OperatingPoints, find_points
from modeling_chexficient.tasks_chexficient import TASKS_ON_THE_HUB

#: What goes wrong with folders that people have: said in one line, not as a traceback.
EXPECTED = (ValueError, OSError, KeyError, UndefinedError)


@dataclass(frozen=True)
class FinishedRun:
    """A run that was finished and evaluated.

    Args:
        folder: of the run; of a "report_base", the folder `base` in it.
        kind: "base" (a pretrained model), "adapter", "head" (a whole model trained for a task), or "report_base" (what
            a run of report generation put together for its adapter).
        record: what its `run.json` says.
        results_dir, results: where its results lie, and these by file name, in order of task.
    """

    folder: Path
    kind: str
    record: PretrainRun | AdaptRun
    results_dir: Path
    results: dict[str, TaskResult]

    @property
    def run_dir(self) -> Path:
        return self.folder.parent if self.kind == "report_base" else self.folder

    @property
    def weights_dir(self) -> Path:
        return self.folder if self.kind == "report_base" else self.folder / _weights_name(self.kind)

    @property
    def data_folders(self) -> list[Path]:
        """The prepared folders that it was trained on, and those that its results were measured on."""
        folders = [*self.record.training_folders, *(result.provenance.dataset for result in self.results.values())]
        return list(dict.fromkeys(Path(folder) for folder in folders))

    @property
    def seen_sources(self) -> list[str]:
        """Corpora that its weights were trained on, as far as its results tell."""
        return sorted({name for result in self.results.values() for name in result.provenance.pretraining_sources})

    @cached_property
    def config(self) -> dict:
        """The configuration of the model; an adapter has none."""
        file = self.weights_dir / "config.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    @cached_property
    def head(self) -> dict | None:
        """Fields of the configuration of its head on a tower, by the files beside the weights; None without one."""
        record = self.record
        if self.kind == "report_base" or not isinstance(record, AdaptRun):
            return None
        if not TASKS_ON_THE_HUB[record.task].head_on_tower:
            return None
        file = self.weights_dir / "chexficient_adapter.json"
        return json.loads(file.read_text())["head"] if file.is_file() else self.config

    @property
    def outputs(self) -> list[str] | None:
        """Names of the outputs of its head, in their order; None without one."""
        if self.head is None:
            return None
        labels = {int(number): name for number, name in self.head["id2label"].items()}
        return [labels[number] for number in sorted(labels)]

    @cached_property
    def points(self) -> OperatingPoints | None:
        """The operating points beside the weights; None where there are none.

        Raises ValueError where they were chosen with another model.
        """
        file = find_points(self.weights_dir)
        if file is None:
            return None
        points = OperatingPoints.load(file)
        processor = AutoImageProcessor.from_pretrained(self.weights_dir)
        points.check_model(self.weights_dir, weights_sha256(self.weights_dir), processor, self.outputs)
        return points

    @property
    def closed_sources(self) -> list[str]:
        """Corpora behind the weights that are not open to anybody."""
        adapted_to = self.record.sources if isinstance(self.record, AdaptRun) else []
        names = {*(self.config.get("pretraining_sources") or []), *adapted_to}
        return sorted(name for name in names if access_of(name) not in PUBLIC)


def read_run(folder: Path, results_dir: Path | None = None) -> FinishedRun:
    """The run in a folder.

    Args:
        folder: of the run, or the folder `base` of a run of report generation.
        results_dir: of its results; default: `results/` of the run.

    Raises:
        ValueError: it is no run, or one that was not finished or not evaluated, or a record of it is damaged.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    if folder.name == "base" and (folder / "config.json").is_file() and (folder.parent / RUN_FILE).is_file():
        results_dir = results_dir or folder.parent / "results"
        return FinishedRun(folder, "report_base", AdaptRun.load(folder.parent), results_dir, load_results(results_dir))
    record = _load_record(folder)
    kind = _kind_of(record)
    if not (folder / _weights_name(kind)).is_dir():
        raise ValueError(f"{folder} is not a finished run: {folder / _weights_name(kind)} is missing")
    if not record.is_of(folder / _weights_name(kind)):
        raise ValueError(
            f"{folder / _weights_name(kind)} holds other weights than {folder / RUN_FILE} tells of: put those of the "
            "run back, or train it anew"
        )
    results_dir = results_dir or folder / "results"
    return FinishedRun(folder, kind, record, results_dir, load_results(results_dir))


def is_dataset(folder: Path) -> bool:
    """Whether a folder holds prepared data (also where its preparation was not finished) or a curated dataset."""
    return (folder / "summary.json").is_file() or (folder / "curation.json").is_file() or (folder / ".prepare").is_dir()


def _load_record(folder: Path) -> PretrainRun | AdaptRun:
    if not any((folder / name).exists() for name in (RUN_FILE, "model", "adapter", ".model")):
        raise ValueError(
            f"{folder} is not a finished run of train.pretrain or train.adapt ({RUN_FILE}), nor a prepared or curated "
            "dataset (summary.json, curation.json)"
        )
    record = Run.load(folder)
    assert isinstance(record, PretrainRun | AdaptRun)
    return record


def _kind_of(record: PretrainRun | AdaptRun) -> str:
    if isinstance(record, PretrainRun):
        return "base"
    return "head" if record.method == "full" else "adapter"


def _weights_name(kind: str) -> str:
    return "adapter" if kind == "adapter" else "model"


def hub_id(name: str | None) -> str | None:
    """`name` if it is that of a repository of the Hub (ORG/NAME); None for a folder, which nobody else calls so."""
    return (
        name
        if name and name.count("/") == 1 and not name.startswith(("/", "~", ".")) and not Path(name).exists()
        else None
    )


def explain(error: Exception, folder: Path) -> str:
    """The line that a command ends with."""
    if isinstance(error, KeyError | UndefinedError):
        return f"error: {folder}: a record of the run or its results lacks a value ({error}): made by another version?"
    return f"error: {error}"

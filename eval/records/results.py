"""Typed results as JSON, one class for each kind of task: what was measured, on how many films, with which versions."""

from __future__ import annotations

from pathlib import Path

from eval.records.estimates import Estimate
from eval.records.label_results import (
    Calibration,
    FrequencyGroup,
    LabelResult,
    ProbeLabel,
    ProbeResult,
    ProbeShare,
    PromptResult,
    Threshold,
    ZeroShotResult,
)
from eval.records.provenance import Provenance, git_commit, package_versions
from eval.records.region_results import (
    GroundedFinding,
    GroundingResult,
    PointingScores,
    SegmentationResult,
    StructureResult,
)
from eval.records.runs import Adaptation
from eval.records.task_result import EVALUATE_ANEW, FORMAT_VERSION, Subgroup, TaskResult, read_values
from eval.records.text_results import Direction, FindingScores, ReportResult, RetrievalResult, TextScores

RESULTS: dict[str, type[TaskResult]] = {
    kind.task: kind
    for kind in (ZeroShotResult, RetrievalResult, ProbeResult, SegmentationResult, GroundingResult, ReportResult)
}


def load_result(path: Path) -> TaskResult:
    """The result in a file, of the class of its task.

    Raises:
        ValueError: the file is no result, or of another format version; the message says how to make one.
    """
    task = _task_in(path)
    if task not in RESULTS:
        raise ValueError(f"{path} is not a result: its task is {task!r}, known are {sorted(RESULTS)}: {EVALUATE_ANEW}")
    return RESULTS[task].load(path)


def load_results(folder: Path) -> dict[str, TaskResult]:
    """The results in a folder by file name, in the order of `RESULTS`; JSON files of something else are left out.

    Raises:
        ValueError: there is none, or a file is damaged or of another format version; the message says how to make one.
    """
    files = [file for file in sorted(folder.glob("*.json")) if _task_in(file) in RESULTS]
    if not files:
        raise ValueError(f"{folder} holds no result: evaluate the model first with `python -m eval.run`")
    results = {file.name: load_result(file) for file in files}
    order = list(RESULTS)
    return dict(sorted(results.items(), key=lambda item: (order.index(item[1].task), item[0])))


def _task_in(path: Path) -> str:
    return str(read_values(path).get("task"))


__all__ = [
    "FORMAT_VERSION",
    "RESULTS",
    "Adaptation",
    "Calibration",
    "Direction",
    "Estimate",
    "FindingScores",
    "FrequencyGroup",
    "GroundedFinding",
    "GroundingResult",
    "LabelResult",
    "PointingScores",
    "ProbeLabel",
    "ProbeResult",
    "ProbeShare",
    "PromptResult",
    "Provenance",
    "ReportResult",
    "RetrievalResult",
    "SegmentationResult",
    "StructureResult",
    "Subgroup",
    "TaskResult",
    "TextScores",
    "Threshold",
    "ZeroShotResult",
    "git_commit",
    "load_result",
    "load_results",
    "package_versions",
]

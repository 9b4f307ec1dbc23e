"""How the results of a run stand in its card and in the index of the Hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import EvalResult
from transformers import AutoImageProcessor

from eval.records.estimates import Estimate
from eval.records.provenance import Provenance
from eval.records.results import (
    GroundingResult,
    ProbeResult,
    ReportResult,
    RetrievalResult,
    SegmentationResult,
    TaskResult,
    ZeroShotResult,
)
from modeling_chexficient.base_identity_chexficient import processor_sha256, weights_sha256


@dataclass(frozen=True)
class ShownTask:
    """A kind of result as cards show it.

    Args:
        title: what it is called.
        hub_type: type of the task on the Hub.
        metric_type: type of the metric of its headline on the Hub.
        figure: name of that headline in a card, where it is not that of the result itself.
    """

    title: str
    hub_type: str
    metric_type: str
    figure: Callable[[TaskResult], str] = lambda result: result.headline[0]


def _probe_figure(result: TaskResult) -> str:
    assert isinstance(result, ProbeResult)
    share = result.shares[-1].label_share
    return "macro AUROC, " + ("trained head" if share is None else f"{share:.0%} of labels")


TASKS: dict[str, ShownTask] = {
    ZeroShotResult.task: ShownTask("zero-shot classification", "zero-shot-image-classification", "roc_auc"),
    RetrievalResult.task: ShownTask(
        "image-text retrieval", "image-text-retrieval", "recall", lambda _: "R@5, image to text"
    ),
    ProbeResult.task: ShownTask("disease prediction", "image-classification", "roc_auc", _probe_figure),
    SegmentationResult.task: ShownTask("segmentation", "image-segmentation", "dice"),
    GroundingResult.task: ShownTask("grounding", "zero-shot-object-detection", "localization"),
    ReportResult.task: ShownTask("report generation", "image-text-to-text", "f1"),
}


def headline(result: TaskResult) -> tuple[str, Estimate]:
    """The one figure of a result: what it is called in a card, and its value."""
    return TASKS[result.task].figure(result), result.headline[1]


def check_model(results: dict[str, TaskResult], weights: Path, outputs: list[str] | None) -> None:
    """Raise ValueError if a result was measured on another model than the one in the folder `weights`: on other
    weights, by other pixels of the films, with other names of what it tells, or on reports that it did not write.

    Args:
        outputs: names of its head's outputs, in their order; None without a head.
    """
    sha256, now = weights_sha256(weights), _processor_sha256(weights)
    for name, result in results.items():
        measured = result.provenance
        differs = []
        if measured.model_sha256 != sha256:
            differs.append(
                f"on other weights (SHA-256 {str(measured.model_sha256)[:12]}...) than those in {weights} "
                f"({str(sha256)[:12]}...)"
            )
        if None not in (measured.processor_sha256, now) and measured.processor_sha256 != now:
            differs.append(f"with another image processor than that in {weights}")
        if None not in (measured.outputs, outputs) and measured.outputs != outputs:
            differs.append(f"when its outputs were {measured.outputs}, in {weights} they are {outputs}")
        if measured.settings.get("predictions") is not None:
            differs.append("on the reports of a file (--predictions), not on those of the model")
        if differs:
            raise ValueError(
                f"{name}: {result.benchmark} was measured {', and '.join(differs)}: evaluate them again with "
                "`python -m eval.run`"
            )


def _processor_sha256(weights: Path) -> str | None:
    """Of the image processor beside the weights; None where there is none."""
    try:
        return processor_sha256(AutoImageProcessor.from_pretrained(weights))
    except (OSError, ValueError):
        return None


def exposure(provenance: Provenance) -> str:
    """Whether the model was trained on films of the same corpora as it was evaluated on, in words."""
    if provenance.seen_sources:
        return "yes: " + ", ".join(provenance.seen_sources)
    return "no" if provenance.pretraining_sources else "not known"


def model_index_entries(results: dict[str, TaskResult]) -> list[EvalResult]:
    """The headline figures for the `model-index` of the card; results without a defined figure are left out.

    The type of the data is the name of the benchmark: entries of equal type, version and split would be merged.
    """
    entries = []
    for result in results.values():
        (name, estimate), provenance, shown = headline(result), result.provenance, TASKS[result.task]
        if estimate.value is None:
            continue
        interval = None
        if estimate.low is not None and estimate.high is not None:
            interval = {"low_95": round(estimate.low, 4), "high_95": round(estimate.high, 4)}
        entries.append(
            EvalResult(
                task_type=shown.hub_type,
                task_name=shown.title,
                dataset_type=result.benchmark,
                dataset_name=f"{result.benchmark} v{result.benchmark_version} ({provenance.split})",
                dataset_config=f"v{result.benchmark_version}",
                dataset_split=provenance.split,
                dataset_args={
                    "films": provenance.films,
                    "patients": provenance.patients,
                    "corpus_in_training": exposure(provenance),
                    "partial": provenance.limited,
                },
                metric_type=shown.metric_type,
                metric_name=name,
                metric_value=round(estimate.value, 4),
                metric_args=interval,
            )
        )
    return entries


def publishable(result: TaskResult, repo: str, base_repo: str | None = None) -> TaskResult:
    """The result without what tells about the machine it was measured on: models by the names of their repositories,
    the data by the name of their folder.
    """
    provenance = result.provenance
    settings = {name: value for name, value in provenance.settings.items() if name not in ("predictions", "prompts")}
    provenance = replace(provenance, model=repo, dataset=Path(provenance.dataset).name, settings=settings)
    adaptation = None if result.adaptation is None else replace(result.adaptation, base=base_repo)
    return replace(result, provenance=provenance, adaptation=adaptation)

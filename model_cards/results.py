"""The results of a run as its card shows them: read from the JSON files of `eval`, never typed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult


@dataclass(frozen=True)
class Figure:
    """The one figure of a result, with its 95 % interval; None where it is not defined."""

    name: str
    metric_type: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Task:
    """A kind of task: what it is called, its type on the Hub, and the figure that stands for a result."""

    title: str
    hub_type: str
    headline: Callable[[dict], Figure]


def _figure(name: str, metric_type: str, estimate: dict) -> Figure:
    return Figure(name, metric_type, estimate["value"], estimate["low"], estimate["high"])


def _probe_headline(result: dict) -> Figure:
    last = result["shares"][-1]
    labels = "trained head" if last["label_share"] is None else f"{last['label_share']:.0%} of labels"
    return _figure(f"macro AUROC, {labels}", "roc_auc", last["macro"])


def _segmentation_headline(result: dict) -> Figure:
    decoder = list(result["macro_dice"])[-1]
    return _figure(f"mean Dice, {decoder}", "dice", result["macro_dice"][decoder])


TASKS = {
    "zero_shot": Task(
        "zero-shot classification",
        "zero-shot-image-classification",
        lambda result: _figure("macro AUROC", "roc_auc", result["macro"]),
    ),
    "retrieval": Task(
        "image-text retrieval",
        "image-text-retrieval",
        lambda result: _figure("R@5, image to text", "recall", result["image_to_text"]["r_at"]["5"]),
    ),
    "disease_prediction": Task("disease prediction", "image-classification", _probe_headline),
    "segmentation": Task("segmentation", "image-segmentation", _segmentation_headline),
    "report_generation": Task(
        "report generation",
        "image-text-to-text",
        lambda result: _figure("clinical F1 (micro)", "f1", result["scores"]["f1_micro"]),
    ),
}


def load_results(folder: Path) -> dict[str, dict]:
    """The results in a folder by file name, in order of task.

    Raises:
        ValueError: there is none (a card without figures says nothing), or a file is no JSON.
    """
    results = {}
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file} is no JSON ({error}): judge the model again with `python -m eval.run`") from error
        if isinstance(content, dict) and content.get("task") in TASKS and "provenance" in content:
            results[file.name] = content
    if not results:
        raise ValueError(f"{folder} holds no result: judge the model first with `python -m eval.run`")
    order = list(TASKS)
    return dict(sorted(results.items(), key=lambda item: (order.index(item[1]["task"]), item[0])))


def check_weights(results: dict[str, dict], sha256: str, weights: Path) -> None:
    """Raise ValueError if a result was measured on other weights than those whose hash is `sha256`."""
    for name, result in results.items():
        measured = result["provenance"]["model_sha256"]
        if measured != sha256:
            raise ValueError(
                f"{name}: {result['benchmark']} was measured on other weights (SHA-256 {str(measured)[:12]}...) than "
                f"those in {weights} ({sha256[:12]}...): judge them again with `python -m eval.run`"
            )


def headline(result: dict) -> Figure:
    return TASKS[result["task"]].headline(result)


def exposure(result: dict) -> str:
    """Whether the model was trained on films of the same corpora as it was judged on, in words."""
    provenance = result["provenance"]
    if provenance["seen_sources"]:
        return "yes: " + ", ".join(provenance["seen_sources"])
    return "no" if provenance["pretraining_sources"] else "not known"


def model_index_entries(results: dict[str, dict]) -> list[EvalResult]:
    """The headline figures for the `model-index` of the card; results without a defined figure are left out.

    The type of the data is the name of the benchmark: entries of equal type, version and split would be merged.
    """
    entries = []
    for result in results.values():
        figure, provenance = headline(result), result["provenance"]
        if figure.value is None:
            continue
        entries.append(
            EvalResult(
                task_type=TASKS[result["task"]].hub_type,
                task_name=TASKS[result["task"]].title,
                dataset_type=result["benchmark"],
                dataset_name=f"{result['benchmark']} v{result['benchmark_version']} ({provenance['split']})",
                dataset_config=f"v{result['benchmark_version']}",
                dataset_split=provenance["split"],
                dataset_args={
                    "films": provenance["films"],
                    "patients": provenance["patients"],
                    "corpus_in_training": exposure(result),
                    "partial": provenance["limited"],
                },
                metric_type=figure.metric_type,
                metric_name=figure.name,
                metric_value=round(figure.value, 4),
                metric_args=None
                if figure.low is None
                else {"low_95": round(figure.low, 4), "high_95": round(figure.high, 4)},
            )
        )
    return entries


def publishable(result: dict, repo: str, base_repo: str | None = None) -> dict:
    """The result without what tells about the machine it was measured on: models by the names of their repositories,
    the data by the name of their folder.
    """
    provenance = {**result["provenance"], "model": repo, "dataset": Path(result["provenance"]["dataset"]).name}
    settings = provenance.get("settings") or {}
    provenance["settings"] = {name: value for name, value in settings.items() if name not in ("predictions", "prompts")}
    result = {**result, "provenance": provenance}
    if result.get("adaptation"):
        result["adaptation"] = {**result["adaptation"], "base": base_repo}
    return result

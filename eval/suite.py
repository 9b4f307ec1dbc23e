"""Evaluating models on benchmarks, one after the other; what is finished is kept, so that a stopped run continues."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from data_scripts.access import may_be_shown
from eval.benchmarks import BENCHMARKS, Benchmark
from eval.figures import plot_zero_shot
from eval.models.encoders import EvaluationModel
from eval.prompts import find_prompts
from eval.provenance import films_fingerprint, processor_sha256
from eval.records.results import TaskResult, ZeroShotResult, load_result
from eval.settings import EvaluationSettings
from eval.splits import files_fingerprint, find_folders, load_splits, of_these_data, other_data, other_splits
from eval.tables import Row


def judge_model(
    model: EvaluationModel, names: Sequence[str], data: Path, settings: EvaluationSettings, again: bool = False
) -> Iterator[tuple[Row, TaskResult | None]]:
    """Evaluate a model on benchmarks in order, saving each result in `settings.out` as soon as it is there.

    Data that are absent and benchmarks that refuse (a model without text tower, labels that do not match, an empty
    split) become rows that say so, and the others go on.

    Args:
        names: of the benchmarks.
        data: a folder of prepared folders; a prepared folder itself where all benchmarks are of one dataset.
        again: evaluate also what is finished.
    """
    alone = len({BENCHMARKS[name].prepared for name in names}) == 1
    for name in names:
        benchmark = BENCHMARKS[name]
        folders = find_folders(benchmark, data, alone)
        if folders is None:
            yield Row(model.name, name, "absent", benchmark.how_to), None
            continue
        try:
            result = judge(model, benchmark, folders, settings, again)
        # OSError: a file of the data cannot be read.
        except (ValueError, OSError) as error:
            yield Row(model.name, name, "refused", str(error)), None
        else:
            yield Row.of_result(result), result


def judge(
    model: EvaluationModel, benchmark: Benchmark, folders: list[Path], settings: EvaluationSettings, again: bool = False
) -> TaskResult:
    """The result of one benchmark: that of an earlier run if all it depends on is the same, else a new one, saved.

    Raises:
        ValueError: the benchmark refuses (see its runner), or the data are not as it needs them (DataError).
    """
    notes = other_data(benchmark, folders)
    splits = load_splits(benchmark, folders, settings.limit)
    benchmark = of_these_data(benchmark, splits)
    notes += other_splits(benchmark, splits)
    files = files_fingerprint(folders)
    path = settings.out / f"{benchmark.name}.json"
    fingerprint = films_fingerprint(benchmark, splits[benchmark.split])
    finished = None if again else _finished(path, model, benchmark, fingerprint, files, settings)
    # One process may see a file that another has just written: the first decides for all.
    (finished,) = broadcast_object_list([finished])
    if finished is not None:
        return finished
    started = time.perf_counter()
    shown = settings.show_films or may_be_shown(splits[benchmark.split], [str(folder) for folder in folders])
    settings = dataclasses.replace(settings, show_films=shown)
    # The runner of a task is the module of its name.
    result = importlib.import_module(f"eval.tasks.{benchmark.task}").run(benchmark, model, splits, settings)
    result.provenance = dataclasses.replace(
        result.provenance,
        dataset=str(folders[0]),
        files_fingerprint=files,
        seconds=time.perf_counter() - started,
    )
    result.notes = [*notes, *result.notes]
    if PartialState().is_main_process:
        result.save(path)
        if isinstance(result, ZeroShotResult):
            plot_zero_shot(result, path.with_suffix(".png"))
    return result


def _finished(
    path: Path,
    model: EvaluationModel,
    benchmark: Benchmark,
    fingerprint: str,
    files: str,
    settings: EvaluationSettings,
) -> TaskResult | None:
    """The result in `path` if it is of this model, benchmark version, data and settings."""
    if not path.is_file():
        return None
    try:
        result = load_result(path)
    except ValueError:
        return None
    then = result.provenance
    wanted = {
        "model": (model.weights_sha256, None if model.weights_sha256 else (model.name, model.revision)),
        "benchmark": (benchmark.name, benchmark.version),
        "data": (fingerprint, files),
        "settings": settings.relevant(benchmark.task),
        "processor": processor_sha256(model),
        # Results of early versions do not name them.
        "outputs": None if then.outputs is None else model.outputs,
        "prompts": _prompt_pairs(result, settings.prompts or benchmark.prompts),
    }
    found = {
        "model": (then.model_sha256, None if then.model_sha256 else (then.model, then.revision)),
        "benchmark": (result.benchmark, result.benchmark_version),
        "data": (then.dataset_fingerprint, then.files_fingerprint),
        "settings": then.settings,
        "processor": then.processor_sha256,
        "outputs": then.outputs,
        "prompts": result.prompt_pairs if isinstance(result, ZeroShotResult) else {},
    }
    return result if wanted == found else None


def _prompt_pairs(result: TaskResult, prompts: str) -> dict[str, list[str]]:
    """The prompts that the labels of a result would have now: a file of prompts may have been edited since."""
    if not isinstance(result, ZeroShotResult):
        return {}
    family = find_prompts(prompts)
    return {name: family.describe(name) for name in result.prompt_pairs}

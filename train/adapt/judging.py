"""The result of a run on films that it has not seen, by the runners of `eval`."""

from __future__ import annotations

from pathlib import Path

from data_scripts.prepared.folder import load_prepared
from data_scripts.prepared.mixture import Mixture
from data_scripts.schema import DataError
from eval.benchmarks import BENCHMARKS, Benchmark
from eval.models.load import load_evaluation_model
from eval.records.results import TaskResult
from eval.records.runs import Adaptation, AdaptRun
from eval.settings import EvaluationSettings
from eval.splits import find_folders, names_of_data
from eval.suite import judge
from modeling_chexficient.precision_chexficient import place
from modeling_chexficient.tasks_chexficient import TASKS_ON_THE_HUB
from train.adapt.arguments import AdaptTrainingArguments
from train.adapt.tasks import Task


def find_benchmark(task: Task, args: AdaptTrainingArguments, mixture: Mixture) -> tuple[Benchmark, list[Path]] | str:
    """What evaluates the run, and its prepared folders; or, in words, why nothing can.

    Raises:
        ValueError: the benchmark asked for does not exist, is of another task, or its data are not there.
    """
    if args.benchmark is not None:
        data = args.benchmark_data or mixture.folders[0]
        return _named_benchmark(args.benchmark, task, Path(data))
    folders = [args.benchmark_data] if args.benchmark_data else mixture.folders
    if len(folders) > 1:
        return "Several folders were trained on, so no test split is theirs: name one with benchmark_data."
    splits = load_prepared(folders[0], ("image", "patient_id"))
    if len(splits.get("test", ())) == 0:
        return f"{folders[0]} has no test split: there is no figure but that on validation."
    folder = Path(folders[0])
    return task.benchmark(*names_of_data(folder), splits["test"]), [folder]


def _named_benchmark(name: str, task: Task, data: Path) -> tuple[Benchmark, list[Path]]:
    runner = TASKS_ON_THE_HUB[task.name].runner
    suited = [known for known, benchmark in BENCHMARKS.items() if benchmark.task == runner]
    if name not in suited:
        raise ValueError(f"--benchmark {name} does not evaluate {task.name}, these do: {suited}")
    folders = find_folders(BENCHMARKS[name], data, alone=True)
    if folders is None:
        raise ValueError(
            f"the data of --benchmark {name} are not in {data}: prepare them with `{BENCHMARKS[name].how_to}` and name "
            "DATA with --benchmark_data"
        )
    return BENCHMARKS[name], folders


def judge_run(
    weights: Path, run: AdaptRun, benchmark: Benchmark, folders: list[Path], args: AdaptTrainingArguments
) -> TaskResult | str:
    """The result of a run on a benchmark, saved beside it; or, in words, why the benchmark refuses.

    Args:
        weights: folder of the adapter or model.
        run: what `run.json` will say, which is written last.
    """
    model = load_evaluation_model(str(weights))
    model.adaptation = Adaptation.of(run, {})
    place(model.model, args.device)
    settings = EvaluationSettings(
        batch_size=args.per_device_eval_batch_size,
        resamples=args.resamples,
        seed=args.seed,
        out=weights.parent / "results",
    )
    try:
        return judge(model, benchmark, folders, settings, again=True)
    except (DataError, ValueError) as error:
        return f"{benchmark.name} refused: {error}"

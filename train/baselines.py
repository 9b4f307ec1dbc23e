"""What pretraining is worth: findings learnt from a model, from random weights of its shape, and from HOG features.

    python -m train.baselines train/recipes/classification.yaml --model runs/demo/model --dataset_dir DIR \
        --output_dir runs/worth --num_runs 5

Takes every argument of `train.adapt`. For each seed (`--seed` and those after it) it runs the adaptation from the
model's weights (`OUT/pretrained-SEED`) and from random weights of the same shape (`OUT/random-SEED`), and fits logistic
regression on HOG features of the same films and labels (`OUT/hog-SEED`). All are evaluated on the same test films.
Prints, and writes to `OUT/baselines.md` and `OUT/baselines.json`, the macro AUROC of each and the differences to the
pretrained one, paired by patient and seed. What is finished is not run again.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, HfArgumentParser, set_seed

from data_scripts.child_processes import run_apart
from data_scripts.command_line import check_at_least_one, command_name
from data_scripts.progress import quiet_libraries
from eval.benchmarks import BENCHMARKS, Benchmark
from eval.models.hog import HOG, HogEncoder
from eval.records.estimates import Estimate
from eval.records.json_values import write_json
from eval.records.results import ProbeResult, load_result
from eval.records.runs import AdaptRun, Run
from eval.scores import ZeroShotScores, scores_path
from eval.settings import EvaluationSettings
from eval.splits import find_folders, names_of_data
from eval.statistics.ranked_labels import RankedLabels
from eval.statistics.significance import mean_statistics, paired_differences, resample_statistics
from eval.suite import judge
from eval.tables import format_difference, format_estimate
from train.adapt.__main__ import ARGUMENTS, Arguments
from train.adapt.__main__ import main as adaptation
from train.adapt.arguments import AUTO
from train.runs.recipes import as_words, parse_recipe

PRETRAINED, RANDOM = "pretrained", "random"
WORDS = {PRETRAINED: "pretrained weights", RANDOM: "random weights", HOG: "HOG features, logistic regression"}


@dataclass
class BaselineArguments:
    """Arguments of `train.baselines` beside those of `train.adapt`."""

    num_runs: int = field(default=3, metadata={"help": "Runs of each kind, of the seeds from --seed on."})

    def __post_init__(self):
        check_at_least_one(self, "num_runs")


@dataclass
class Baseline:
    """One kind of weights: macro figure over all runs, and that of `pretrained` minus this (None for itself)."""

    name: str
    macro: Estimate
    by_run: list[float]
    difference: Estimate | None = None


@dataclass
class Baselines:
    """The comparison: `baselines` with `pretrained` first; `films`, `patients` of the test; `notes` for the reader."""

    model: str
    benchmark: str
    labels: list[str]
    films: int
    patients: int
    seeds: list[int]
    resamples: int
    baselines: list[Baseline]
    notes: list[str]


def save_random_weights(model: str, folder: Path, seed: int) -> Path:
    """Write a model of the shape of `model`, with its processor, whose weights are sampled by the seed."""
    if (folder / "config.json").is_file():
        return folder
    config = AutoConfig.from_pretrained(model)
    set_seed(seed)
    AutoModel.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoProcessor.from_pretrained(model).save_pretrained(folder)
    return folder


def run_adaptations(words: Sequence[str], arguments: Arguments, seeds: Sequence[int]) -> dict[str, list[Path]]:
    """Run what is not there yet; the folders by kind of weights.

    Args:
        words: the command line of `train.adapt`; what is named again later overrides it.

    Raises:
        ValueError: a run failed, or one that is there was made with other arguments.
    """
    out = Path(arguments.training.output_dir)
    folders: dict[str, list[Path]] = {PRETRAINED: [], RANDOM: []}
    for seed in seeds:
        for kind, made in folders.items():
            made.append(folder := out / f"{kind}-{seed}")
            base = out / "random_weights" / str(seed) if kind == RANDOM else arguments.task.model
            command = [*words, *as_words("model", base), *as_words("seed", seed), *as_words("output_dir", folder)]
            if (folder / "run.json").is_file():
                check_same_settings(folder, command)
                continue
            if kind == RANDOM:
                save_random_weights(arguments.task.model, base, seed)
            print(f"{WORDS[kind]}, seed {seed}: {folder}", flush=True)
            if run_apart(adaptation, command) != 0:
                raise ValueError(f"the run in {folder} failed; what it said is above")
    return folders


def check_same_settings(folder: Path, command: Sequence[str]) -> None:
    """Raise ValueError, which names them, where a finished run was made with other arguments than a command now has."""
    asked = json.loads(json.dumps(Arguments(*parse_recipe(ARGUMENTS, list(command))).changed()))
    made = Run.load(folder).settings
    different = sorted(name for name in {*asked, *made} if asked.get(name) != made.get(name))
    if different:
        told = "; ".join(f"{name} {made.get(name)!r} -> {asked.get(name)!r}" for name in different)
        raise ValueError(f"{folder} was run with other arguments: {told}. Choose another output_dir")


def the_result(folder: Path) -> ProbeResult:
    """The result of an adaptation to findings, with the scores of single films."""
    found = [load_result(path) for path in sorted((folder / "results").glob("*.json"))]
    results = [result for result in found if isinstance(result, ProbeResult)]
    if len(results) != 1 or results[0].scores_sha256 is None:
        notes = Run.load(folder).notes
        raise ValueError(f"{folder} has no result on test films to compare by: {' '.join(notes) or 'no test split'}")
    return results[0]


def judge_hog(run: ProbeResult, arguments: Arguments, seed: int, folder: Path) -> Path:
    """Fit and evaluate HOG features on the films and labels of a run; the folder."""
    data = Path(arguments.training.benchmark_data or arguments.data.read().folders[0])
    named = arguments.training.benchmark
    # Without a benchmark that has a name, a run is evaluated on its own data's test split.
    benchmark = BENCHMARKS[named] if named else _own_benchmark(run, data, arguments.task.unlisted_is_absent)
    folders = find_folders(benchmark, data, alone=True) if named else None
    settings = EvaluationSettings(
        label_shares=(arguments.task.label_share,),
        num_seeds=1,
        seed=seed,
        resamples=arguments.training.resamples,
        out=folder / "results",
    )
    judge(HogEncoder(), benchmark, folders or [data], settings)
    return folder


def _own_benchmark(run: ProbeResult, data: Path, unlisted_is_absent: bool) -> Benchmark:
    labels = tuple(label.name for label in run.shares[-1].labels)
    dataset = names_of_data(data)[1]
    told = {"labels": labels, "unlisted_is_absent": unlisted_is_absent}
    return Benchmark(run.benchmark, run.benchmark_version, ProbeResult.task, dataset, **told)


def compare(folders: dict[str, list[Path]], resamples: int, seed: int) -> list[Baseline]:
    """The macro AUROCs of each kind and their differences, over the same resamples of patients and of seeds."""
    scores = {kind: [_scores(folder) for folder in of_kind] for kind, of_kind in folders.items()}
    everything = [run for of_kind in scores.values() for run in of_kind]
    names = [name for name in everything[0].names if all(name in run.names for run in everything)]

    def statistic(run: ZeroShotScores):
        # Each run has its labels in its own order.
        columns = [run.names.index(name) for name in names]
        ranked = RankedLabels(run.scores[:, columns], run.targets[:, columns])

        def macro(weights: np.ndarray) -> dict[str, np.ndarray]:
            return {"macro": np.nanmean(ranked.aurocs(weights), axis=1)}

        return macro

    figures = [statistic(run) for run in everything]
    values = iter(resample_statistics(figures, everything[0].patients, resamples, seed))
    by_kind = {kind: [next(values) for _ in of_kind] for kind, of_kind in scores.items()}
    means = {kind: mean_statistics(runs) for kind, runs in by_kind.items()}
    return [
        Baseline(
            kind,
            Estimate.of_resamples(means[kind]["macro"]),
            [float(run["macro"][0]) for run in runs],
            None if kind == PRETRAINED else paired_differences(means[PRETRAINED], means[kind])["macro"],
        )
        for kind, runs in by_kind.items()
    ]


def _scores(folder: Path) -> ZeroShotScores:
    result = the_result(folder)
    return ZeroShotScores.load(scores_path(folder / "results" / f"{result.benchmark}.json"), result.scores_sha256 or "")


def format_baselines(result: Baselines) -> str:
    """A Markdown table and what has to be known beside it."""
    films = f"{result.films:,} test films of {result.patients:,} patients"
    lines = [
        f"{result.model} adapted to {', '.join(result.labels)}; macro AUROC on {films}, seeds {result.seeds}.",
        "",
        "| start | macro AUROC | by seed | pretrained minus this |",
        "|---|---|---|---|",
    ]
    for row in result.baselines:
        difference = "-" if row.difference is None else format_difference(row.difference)
        by_run = ", ".join(f"{value:.3f}" for value in row.by_run)
        lines.append(f"| {WORDS[row.name]} | {format_estimate(row.macro)} | {by_run} | {difference} |")
    interval = (
        f"95 % intervals of a bootstrap over patients and seeds ({result.resamples:,} resamples), paired in "
        "differences; of few seeds they are too narrow (of n seeds by sqrt(1 - 1/n)). A difference whose interval "
        "holds 0 could not be told from chance."
    )
    return "\n".join([*lines, "", interval, *(f"\n{note}" for note in result.notes)])


def compare_with_baselines(words: Sequence[str], arguments: Arguments, own: BaselineArguments) -> Baselines:
    """Run and evaluate all; see the module.

    Raises:
        ValueError: the task is not that of findings, a run failed, or there is no test split to compare on.
    """
    if arguments.method.method == AUTO:
        raise ValueError("baselines compare runs of one method, which auto may not choose: name a method")
    if arguments.task.task != "classification":
        raise ValueError("baselines are for task classification: of the others there are no scores of single films")
    first = arguments.training.seed
    seeds = list(range(first, first + own.num_runs))
    folders = run_adaptations(words, arguments, seeds)
    result = the_result(folders[PRETRAINED][0])
    out = Path(arguments.training.output_dir)
    folders[HOG] = [judge_hog(result, arguments, seed, out / f"{HOG}-{seed}") for seed in seeds]
    resamples = arguments.training.resamples
    rows = compare(folders, resamples, first)
    runs = [Run.load(folder) for kind in (PRETRAINED, RANDOM) for folder in folders[kind]]
    kept = sum(isinstance(run, AdaptRun) and run.best_step == 0 for run in runs)
    scores = _scores(folders[PRETRAINED][0])
    return Baselines(
        str(arguments.task.model),
        result.benchmark,
        scores.names,
        len(scores.patients),
        len(np.unique(scores.patients)),
        seeds,
        resamples,
        rows,
        [f"{kept} of {len(runs)} adaptations kept their start, before the first step."] if kept else [],
    )


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        usage = "%(prog)s [RECIPE.yaml] [--num_runs N] [--ARGUMENT_OF_TRAIN_ADAPT VALUE ...]"
        parser = HfArgumentParser(BaselineArguments, prog=command_name(), usage=usage)
        own, words = parser.parse_args_into_dataclasses(words, return_remaining_strings=True, look_for_args_file=False)
        adaptation = Arguments(*parse_recipe(ARGUMENTS, words))
        result = compare_with_baselines(words, adaptation, own)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    out = Path(adaptation.training.output_dir)
    text = format_baselines(result)
    (out / "baselines.md").write_text(text + "\n")
    write_json(dataclasses.asdict(result), out / "baselines.json")
    print(f"\n{text}\n\nwritten: {out / 'baselines.md'}, {out / 'baselines.json'}")


if __name__ == "__main__":
    main()

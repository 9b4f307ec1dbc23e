"""Adapting a pretrained base to findings, structures or reports, from prepared data to an adapter folder.

    accelerate launch -m train.adapt train/recipes/classification.yaml --model DIR --dataset_dir DIR --output_dir RUN
    torchrun --nproc_per_node 2 -m train.adapt train/recipes/segmentation.yaml ... --use_cpu

Writes into `output_dir`: `adapter/` (methods lora, hira and linear: a PEFT adapter with its head) or `model/` (method
full), for findings with operating points where validation has films enough, `results/` (the data's test split, or
`--benchmark`, evaluated by `eval`), `log.json` and, last, `run.json` (what was done, from which base, at what cost).
The base itself is never changed. With `--save_strategy steps --save_steps 0.1` a run that was stopped goes on by
`--resume_from_checkpoint last`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import set_seed

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.mixture import Mixture
from data_scripts.progress import quiet_libraries
from eval.benchmarks import Benchmark
from eval.records.provenance import git_commit, package_versions
from eval.records.results import TaskResult
from eval.records.runs import AdaptRun
from eval.tables import format_estimate
from modeling_chexficient.base_identity_chexficient import BaseIdentity, identify_base, weights_sha256
from modeling_chexficient.precision_chexficient import QUANTISED, check_precision
from train.adapt.arguments import AUTO, LEARNING_RATES, TUNERS, AdaptTrainingArguments, MethodArguments, TaskArguments
from train.adapt.augmentation import Augmentation
from train.adapt.choice import choose_method
from train.adapt.findings import FindingsTask, build_findings
from train.adapt.head_start import start_head
from train.adapt.judging import find_benchmark, judge_run
from train.adapt.methods import apply_method, count_trainable
from train.adapt.points import write_points
from train.adapt.reports import ReportArguments, build_reports, load_writer
from train.adapt.run_folder import check_run_folder, save_base, save_weights, start_run_folder, weights_bytes
from train.adapt.structures import build_structures
from train.adapt.tasks import Task
from train.adapt.trainer import AdaptTrainer
from train.runs.arguments import changed_settings, settings_of_the_result
from train.runs.distributed import leave_together, wait_for_all, world_size
from train.runs.folder import BASE, checkpoint_to_resume, write_log
from train.runs.memory import peak_memory
from train.runs.recipes import DataArguments, parse_recipe

ARGUMENTS = (TaskArguments, DataArguments, MethodArguments, Augmentation, AdaptTrainingArguments, ReportArguments)
_KEPT_START = (
    "Nothing that was learnt was better on validation: the weights are those of the start, before the first step. Two "
    "such runs of different methods do not compare them; try a lower learning_rate, more steps or more patience."
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """All arguments of a run, by concern."""

    task: TaskArguments
    data: DataArguments
    method: MethodArguments
    augmentation: Augmentation
    training: AdaptTrainingArguments
    reports: ReportArguments

    def __post_init__(self):
        if self.reports.changed and self.task.task != "report_generation":
            raise ValueError(f"{self.reports.changed} belong to task report_generation, this is {self.task.task}")
        leaves_tower = self.method.method in TUNERS and not self.method.adapt_tower
        if self.task.task == "report_generation" and leaves_tower and self.method.layer_decay != 1:
            raise ValueError("layer_decay is of the vision tower, which this run leaves alone: give adapt_tower")
        if self.method.adapt_tower and self.task.task != "report_generation":
            raise ValueError("adapt_tower belongs to task report_generation: other tasks adapt the tower anyway")
        if self.method.method == AUTO:
            self._check_auto()
        elif self.training.learning_rate is None:
            self.training.learning_rate = LEARNING_RATES[self.method.method]
        check_precision(self.precision, self.training.device)
        if (self.training.gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError(
                "gradient_checkpointing_kwargs use_reentrant gives layers on frozen inputs no gradient: leave it out"
            )

    def _check_auto(self) -> None:
        """Raise ValueError for what only a method that is named can have."""
        if self.task.task != "classification" or self.task.head_start != "probe":
            raise ValueError("method auto is for findings whose head starts from the probe: name a method")
        given = {"learning_rate": self.training.learning_rate, "base_precision": self.method.base_precision}
        named = [name for name, value in given.items() if value is not None]
        if named:
            raise ValueError(
                f"{', '.join(named)} depend on the method, which auto chooses: leave them out, or name one"
            )

    def settled(self, task: Task) -> tuple[Arguments, str | None]:
        """With the method that `auto` stands for, and why; as they are where a method was named."""
        if self.method.method != AUTO:
            return self, None
        choice = choose_method(task.model, task.parts, len(task.train_dataset))
        return dataclasses.replace(self, method=choice.applied(self.method)), choice.reason

    @property
    def precision(self) -> str:
        """Of the base, where it was said."""
        return self.method.base_precision or "fp32"

    def changed(self) -> dict:
        """What differs from the defaults, without paths and secrets."""
        return changed_settings(self.task, self.method, self.augmentation, self.training, self.reports)

    def of_the_result(self, base: BaseIdentity) -> dict:
        """What must be equal in a run that is resumed; the augmentation is the task's to say."""
        settings = settings_of_the_result(self.task, self.method, self.training, self.reports)
        return settings | {"base": base.weights_sha256}


#: By name of a task (`tasks_chexficient.TASKS`), what it learns from: from arguments, mixture, augmentation and seed.
BUILDERS: dict[str, Callable[..., Task]] = {
    "classification": lambda given, *common: build_findings(given.task, *common, given.precision),
    "segmentation": lambda given, *common: build_structures(given.task, *common, given.precision),
    "report_generation": lambda given, *common: build_reports(given.task, given.reports, given.method, *common),
}


def build_task(arguments: Arguments, mixture: Mixture) -> Task:
    """The task of a run; rank 0 reads (and caches) the data, the other ranks find them ready."""
    with arguments.training.main_process_first(desc="loading the dataset"):
        build = BUILDERS[arguments.task.task]
        return build(arguments, mixture, arguments.augmentation, arguments.training.seed)


def adapt(arguments: Arguments) -> None:
    args = arguments.training
    run_dir = Path(arguments.training.output_dir)
    mixture = arguments.data.read()
    check_run_folder(run_dir, arguments.task.model)
    task = build_task(arguments, mixture)
    arguments, reason = arguments.settled(task)
    task.notes += [] if reason is None else [reason]
    # Before training, so that a missing benchmark is not found out at the end.
    benchmark = find_benchmark(task, args, mixture)
    base = identify_base(arguments.task.model, arguments.task.revision)
    checkpoint = checkpoint_to_resume(args)
    # All processes have looked for checkpoints before one of them clears up.
    wait_for_all()
    if args.should_save:
        start_run_folder(run_dir)
    if task.base_made_here and arguments.method.method != "full":
        if args.should_save:
            save_base(task, run_dir)
        wait_for_all()
        base = identify_base(run_dir / BASE)
        if task.base_precision in QUANTISED:
            task.model, _ = load_writer(str(run_dir / BASE), None, task.base_precision)
    trainer = build_trainer(arguments, task, base, resumes=checkpoint is not None)
    if checkpoint is not None:
        trainer.resume(checkpoint)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    run = describe_run(trainer, arguments, base, mixture)
    weights = finish(trainer, run, base, run_dir)
    results = judge_finished(weights, run, benchmark, args)
    points = write_points(weights, task, mixture, args)
    if args.should_save:
        run.write(run_dir)
        print("\n".join([summary(run, results, weights), *([points] if points else [])]))
    leave_together()


def build_trainer(arguments: Arguments, task: Task, base: BaseIdentity, resumes: bool = False) -> AdaptTrainer:
    """The trainer of a run. What is new in the model is initialised by the seed; a run that goes on has its head in the
    checkpoint.
    """
    args = arguments.training
    by_probe = arguments.task.head_start == "probe"
    started = time.perf_counter()
    if isinstance(task, FindingsTask) and task.new_head and by_probe and not resumes:
        task.notes.append(start_head(task, args.device, args.per_device_eval_batch_size, args.dataloader_num_workers))
    # New weights of adapters.
    set_seed(args.seed)
    model = apply_method(task.model, task.parts, arguments.method, task.base_precision)
    if args.should_save:
        print("\n".join([str(count_trainable(model)), *task.notes]))
    return AdaptTrainer(task, model, args, arguments.method, arguments.of_the_result(base), started)


def describe_run(trainer: AdaptTrainer, arguments: Arguments, base: BaseIdentity, mixture: Mixture) -> AdaptRun:
    """The record of a run: the settings, the figure on validation, and what was spent over all processes."""
    task, args, best = trainer.task, trainer.args, trainer.best
    splits, trainable, spent = task.splits, count_trainable(trainer.model), trainer.spent()
    sources = read_column(splits.train, "source", splits.train_rows)
    return AdaptRun(
        task=task.name,
        method=arguments.method.method,
        base=dataclasses.asdict(base),
        head=task.head,
        label_share=arguments.task.label_share,
        labels=list(task.head.get("id2label", {}).values()),
        seed=args.seed,
        trainable_parameters=trainable.trainable,
        all_parameters=trainable.all,
        trainable_share=trainable.share,
        train_films=splits.train_films,
        train_patients=splits.train_patients,
        validation={
            "films": len(splits.validation_rows),
            "patients": splits.validation_patients,
            "metric": task.metric,
            "value": best.figure,
            **best.metrics,
        },
        best_epoch=best.epoch,
        best_step=best.step,
        steps=trainer.state.global_step,
        seconds=spent.seconds,
        flops=spent.flops,
        device=torch.cuda.get_device_name() if args.device.type == "cuda" else str(args.device),
        processes=world_size(),
        peak_memory=peak_memory(args.device),
        sources=sorted(set(sources)),
        mixture=dataclasses.asdict(mixture),
        settings=arguments.changed(),
        augmentation=dataclasses.asdict(task.augmentation),
        notes=[*task.notes, *([_KEPT_START] if best.step == 0 else [])],
        git_commit=git_commit(),
        packages=package_versions(),
        facts=task.facts,
    )


def finish(trainer: AdaptTrainer, run: AdaptRun, base: BaseIdentity, run_dir: Path) -> Path:
    """Write the best weights and the log; says in `run` which they are, and how many bytes. Returns the folder."""
    folder = run_dir / ("adapter" if hasattr(trainer.model, "peft_config") else "model")
    if trainer.args.should_save:
        save_weights(trainer.task, trainer.model, base, run_dir)
        write_log(trainer.state.log_history, run_dir)
    wait_for_all()
    run.adapter_bytes = weights_bytes(folder)
    run.weights_sha256 = weights_sha256(folder)
    return folder


def judge_finished(
    weights: Path, run: AdaptRun, benchmark: tuple[Benchmark, list[Path]] | str, args: AdaptTrainingArguments
) -> TaskResult | str:
    """The result on the benchmark, or in words why there is none; the latter becomes a note of the run."""
    result = benchmark if isinstance(benchmark, str) else judge_run(weights, run, *benchmark, args)
    if isinstance(result, str):
        run.notes = [*run.notes, result]
    return result


def summary(run: AdaptRun, result: TaskResult | str, weights: Path) -> str:
    validation = run.validation
    lines = [
        f"{run.method} on {run.train_films:,} films of {run.train_patients:,} patients: "
        f"{validation['metric']} {validation['value']:.3f} on validation after {run.best_epoch:.3g} epochs, "
        f"{run.seconds:,.0f} s",
        f"{weights}: {run.adapter_bytes:,} bytes, trainable {run.trainable_share:.2%}",
    ]
    if _KEPT_START in run.notes:
        lines.append(_KEPT_START)
    if isinstance(result, str):
        return "\n".join([*lines, result])
    name, figure = result.headline
    return "\n".join([*lines, f"{result.benchmark}: {name} {format_estimate(figure)}"])


def plain_message(error: Exception) -> str:
    """What went wrong; of an error in a worker that loads films, without the traceback that torch writes before it."""
    text = str(error)
    return text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip() if text.startswith("Caught ") else text


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    try:
        adapt(Arguments(*parse_recipe(ARGUMENTS, arguments)))
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {plain_message(error)}") from error


if __name__ == "__main__":
    main()

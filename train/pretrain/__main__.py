"""Curated contrastive pretraining, from prepared data to a model folder.

    accelerate launch -m train.pretrain train/recipes/demo.yaml [--argument value ...]
    torchrun --nproc_per_node 2 -m train.pretrain train/recipes/demo.yaml --use_cpu

Writes into `output_dir`: `model/` (loads with `AutoModel`, with our code beside the weights), `curated_subset.parquet`
(row and record id of every kept pair), `log.json`, `run.json` (what was done, at what cost) and `curation_report.html`.
With `--save_strategy steps --save_steps 500` a run that was stopped goes on by `--resume_from_checkpoint last`.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import torch
from datasets import Dataset

from data_scripts.prepared.films import COLUMNS, PairDataset
from data_scripts.prepared.labels import prevalences
from data_scripts.prepared.mixture import load_mixture
from data_scripts.progress import quiet_libraries
from eval.records.provenance import git_commit, package_versions
from eval.records.runs import RUN_FILE, Flops, PretrainRun
from modeling_chexficient import CheXficientImageProcessor, CheXficientProcessor
from train.objectives.collator import PairCollator
from train.pretrain.arguments import CuratedTrainingArguments
from train.pretrain.model import ModelArguments, build_model, build_tokenizer
from train.pretrain.trainer import CuratedTrainer
from train.runs.checkpoints import STAGING
from train.runs.distributed import leave_together, wait_for_all, world_size
from train.runs.folder import changed_settings, checkpoint_to_resume, settings_of_the_result
from train.runs.recipes import DataArguments, parse_recipe
from train.selection.report.page import write_report
from train.selection.state import STATE_FILE
from train.selection.subset import SUBSET_FILE, check_target, save_curated_dataset, save_curated_subset


def describe_run(trainer: CuratedTrainer, model_arguments: ModelArguments, data: DataArguments) -> PretrainRun:
    """The record of a run: the settings, and what was spent (over all processes, also before a resumption)."""
    args, selects = trainer.args, trainer.schedule.selects
    spent = trainer.spent()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return PretrainRun(
        selection=args.selection,
        keep_share_asked=args.keep_share,
        keep_share_reached=trainer.curation.kept_share if selects else 1.0,
        corpus_pairs=trainer.schedule.num_rows,
        corpus_fingerprint=trainer.train_dataset.fingerprint,
        kept_pairs=int(trainer.curation.kept.sum()) if selects else trainer.schedule.num_rows,
        seed=args.seed,
        schedule=dataclasses.asdict(trainer.schedule),
        steps=trainer.state.global_step,
        skipped_batches=trainer.skipped_batches,
        pairs_trained=spent["pairs_trained"],
        pairs_scored=spent["pairs_scored"],
        flops=Flops(spent["flops_trained"], spent["flops_scored"]),
        final_loss=losses[-1] if losses else None,
        seconds=trainer.seconds(),
        processes=world_size(),
        device=torch.cuda.get_device_name() if args.device.type == "cuda" else str(args.device),
        mixture=dataclasses.asdict(data.read()),
        settings=changed_settings(model_arguments) | changed_settings(args),
        git_commit=git_commit(),
        packages=package_versions(),
    )


def main(arguments: list[str] | None = None) -> None:
    quiet_libraries()
    dataclass_types = (ModelArguments, DataArguments, CuratedTrainingArguments)
    try:
        pretrain(*parse_recipe(dataclass_types, sys.argv[1:] if arguments is None else arguments))
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


def forget_earlier_run(output_dir: Path) -> None:
    """Remove what an earlier run wrote about itself: it must not speak for this one."""
    names = (RUN_FILE, "log.json", SUBSET_FILE, STATE_FILE, "curation_report.html", "curation_report.json")
    for name in names:
        (output_dir / name).unlink(missing_ok=True)
    shutil.rmtree(output_dir / STAGING, ignore_errors=True)


def build_trainer(
    model_arguments: ModelArguments, data: DataArguments, args: CuratedTrainingArguments
) -> tuple[CuratedTrainer, Dataset]:
    """The trainer of a run, and its training split with all columns."""
    mixture = data.read()
    if mixture.repeats and args.selection != "none":
        raise ValueError(
            f"{data.mixture} repeats pairs (a weight above 1), which selection {args.selection} would take for "
            "duplicates: lower the weight, or choose selection none"
        )
    # One process reads (and caches) the data first; the others find it ready.
    with args.main_process_first(desc="loading the dataset"):
        dataset = load_mixture(mixture, "train", COLUMNS)
        validation = load_mixture(mixture, "validation", COLUMNS) if args.eval_strategy != "no" else None
    if model_arguments.model is not None:
        processor = CheXficientProcessor.from_pretrained(model_arguments.model)
        model_arguments.image_size = processor.image_processor.size["shortest_edge"]
    tokenizer = build_tokenizer(model_arguments, dataset["report"])
    model = build_model(model_arguments, tokenizer, args.seed)
    # Evaluation says so next to a figure on a corpus that the model was trained on.
    sources = dataset.unique("source") if "source" in dataset.column_names else []
    before = getattr(model.config, "pretraining_sources", None) or []
    model.config.pretraining_sources = sorted({*sources, *before})
    trainer = CuratedTrainer(
        model,
        args,
        train_dataset=PairDataset(dataset),
        eval_dataset=validation,
        prevalence=prevalences(dataset) if validation is not None else None,
        settings=settings_of_the_result(model_arguments, args),
        data_collator=PairCollator(
            tokenizer, model_arguments.image_size, model_arguments.max_text_length, args.padded_text_multiple
        ),
        processing_class=CheXficientProcessor(CheXficientImageProcessor(model_arguments.image_size), tokenizer),
    )
    return trainer, dataset


def pretrain(model_arguments: ModelArguments, data: DataArguments, args: CuratedTrainingArguments) -> None:
    if args.save_curated_dataset:
        check_target(Path(args.save_curated_dataset))
    trainer, dataset = build_trainer(model_arguments, data, args)
    for name in ("score_image_size", "low_resolution_size"):
        if (getattr(args, name) or 0) > model_arguments.image_size:
            raise ValueError(f"{name} is {getattr(args, name)}, more than image_size {model_arguments.image_size}")
    checkpoint = checkpoint_to_resume(args)
    if checkpoint is not None:
        trainer.resume(checkpoint)
    # All processes have looked for checkpoints before one of them clears up.
    wait_for_all()
    if trainer.is_world_process_zero():
        forget_earlier_run(Path(args.output_dir))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    run = describe_run(trainer, model_arguments, data)
    # What is left may take the first process longer than the others would wait.
    leave_together()
    if trainer.is_world_process_zero():
        save_run(trainer, dataset, run)


def save_run(trainer: CuratedTrainer, dataset: Dataset, run: PretrainRun) -> None:
    """Write the model and what is known of the run; `run.json` last, as the sign that all is there."""
    args, output_dir = trainer.args, Path(trainer.args.output_dir)
    model_dir, staged = output_dir / "model", output_dir / ".model"
    shutil.rmtree(staged, ignore_errors=True)
    trainer.save_model(str(staged))
    # Trainer pickles its arguments; a pickle has no place in a folder that may be published.
    (staged / "training_args.bin").unlink(missing_ok=True)
    shutil.rmtree(model_dir, ignore_errors=True)
    staged.rename(model_dir)
    if trainer.schedule.selects:
        save_curated_subset(dataset, trainer.curation.kept_rows, output_dir / SUBSET_FILE)
        trainer.curation.save(output_dir)
    (output_dir / "log.json").write_text(json.dumps(trainer.state.log_history, indent=2) + "\n")
    run.write(output_dir)
    if args.save_curated_dataset:
        save_curated_dataset(dataset, trainer.curation.kept_rows, run, Path(args.save_curated_dataset))
    if args.curation_report and trainer.schedule.selects:
        write_report(output_dir, dataset, show_films=args.report_galleries)
    print(
        f"kept {run.kept_pairs:,} of {run.corpus_pairs:,} pairs ({run.keep_share_reached:.1%}), trained on "
        f"{run.pairs_trained:,} and scored {run.pairs_scored:,} with {run.flops.total / 1e15:.3g} PFLOP in "
        f"{run.seconds:,.0f} s: {model_dir}"
    )


if __name__ == "__main__":
    main()

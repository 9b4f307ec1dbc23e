"""A pretraining run, from its arguments to its folder."""

from __future__ import annotations

import dataclasses
from itertools import chain
from pathlib import Path

import torch
from datasets import Dataset

from data_scripts.prepared.columns import iterate_column, read_column
from data_scripts.prepared.films import COLUMNS, PairDataset
from data_scripts.prepared.labels import prevalences
from data_scripts.prepared.mixture import load_mixture
from eval.records.provenance import git_commit, package_versions
from eval.records.runs import PretrainRun
from modeling_chexficient import CheXficientImageProcessor, CheXficientProcessor
from modeling_chexficient.base_identity_chexficient import weights_sha256
from train.objectives import OBJECTIVES
from train.objectives.collator import PairCollator
from train.objectives.discounting import SUSPECTED_FILE
from train.pretrain.arguments import ModelArguments
from train.pretrain.label_records import LabelledPairs, read_label_records
from train.pretrain.model import build_model, build_tokenizer, freeze_blocks
from train.pretrain.reference import embed_reference
from train.pretrain.trainer import CuratedTrainer
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.runs.arguments import changed_settings, settings_of_the_result
from train.runs.distributed import leave_together, wait_for_all, world_size
from train.runs.folder import LOG_FILE, MODEL, checkpoint_to_resume, forget_earlier_run, replaced_whole, write_log
from train.runs.recipes import DataArguments
from train.selection.knowledge import REFERENCE, know
from train.selection.report.page import write_report
from train.selection.state import STATE_FILE
from train.selection.subset import SUBSET_FILE, check_target, save_curated_dataset, save_curated_subset

ARGUMENTS = (ModelArguments, DataArguments, CuratedTrainingArguments)
#: What a run writes, beside its model and its record.
_WRITTEN = (LOG_FILE, SUBSET_FILE, STATE_FILE, SUSPECTED_FILE, "curation_report.html", "curation_report.json")


def describe_run(trainer: CuratedTrainer, model_arguments: ModelArguments, data: DataArguments) -> PretrainRun:
    """The record of a run: the settings, and what was spent (over all processes, also before a resumption)."""
    args, selects, pairs = trainer.args, trainer.schedule.selects, trainer.train_dataset
    spent = trainer.spent()
    notes = [pairs.records.note()] if isinstance(pairs, LabelledPairs) else []
    if trainer.balance is not None:
        notes.append(f"{trainer.balance}.")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return PretrainRun(
        selection=args.selection,
        selection_words=args.rule.words,
        keep_share_asked=args.keep_share,
        keep_share_reached=trainer.curation.kept_share if selects else 1.0,
        corpus_pairs=trainer.schedule.num_rows,
        corpus_fingerprint=pairs.fingerprint,
        kept_pairs=int(trainer.curation.kept.sum()) if selects else trainer.schedule.num_rows,
        seed=args.seed,
        start=model_arguments.model,
        start_sha256=None if model_arguments.model is None else weights_sha256(model_arguments.model),
        schedule=dataclasses.asdict(trainer.schedule),
        steps=trainer.state.global_step,
        skipped_batches=trainer.skipped_batches,
        pairs_trained=spent.samples,
        pairs_scored=trainer.curator.pairs_scored,
        flops=spent.flops,
        final_loss=losses[-1] if losses else None,
        seconds=spent.seconds,
        processes=world_size(),
        device=torch.cuda.get_device_name() if args.device.type == "cuda" else str(args.device),
        mixture=dataclasses.asdict(data.read()),
        settings=changed_settings(model_arguments, args),
        git_commit=git_commit(),
        packages=package_versions(),
        notes=notes,
    )


def build_trainer(
    model_arguments: ModelArguments, data: DataArguments, args: CuratedTrainingArguments
) -> tuple[CuratedTrainer, Dataset]:
    """The trainer of a run, and its training split with all columns."""
    mixture = data.read()
    if mixture.repeats and args.rule.selects:
        raise ValueError(
            f"{data.mixture} repeats pairs (a weight above 1), which selection {args.selection} would take for "
            "duplicates: lower the weight, or choose selection none"
        )
    objective = OBJECTIVES[args.objective]
    share, source = args.label_record_share, args.label_source
    columns = (*COLUMNS, *objective.columns, *(("labels",) if share and source == "data" else ()))
    # One process reads (and caches) the data first; the others find it ready.
    with args.main_process_first(desc="loading the dataset"):
        dataset = load_mixture(mixture, "train", columns)
        validation = load_mixture(mixture, "validation", COLUMNS) if args.eval_strategy != "no" else None
        known = know(args.needs, dataset)
    records = read_label_records(dataset, source, share, args.seed) if share else None
    texts = chain(iterate_column(dataset, "report"), records.texts() if records is not None else ())
    tokenizer = build_tokenizer(model_arguments, texts)
    model = build_model(model_arguments, tokenizer, args.seed)
    if args.freeze_blocks:
        freeze_blocks(model.vision_model, args.freeze_blocks)
    # Evaluation says so next to a figure on a corpus that the model was trained on.
    sources = dataset.unique("source") if "source" in dataset.column_names else []
    before = getattr(model.config, "pretraining_sources", None) or []
    model.config.pretraining_sources = sorted({*sources, *before})
    settings = settings_of_the_result(model_arguments, args)
    if records is None:
        pairs = PairDataset(dataset, objective.columns)
    else:
        pairs = LabelledPairs(dataset, records, objective.columns)
    reference = None
    if REFERENCE in args.rule.needs:
        reference = embed_reference(args.reference_model, pairs, args)
        known[REFERENCE] = reference.embeds
        settings["reference"] = reference.weights_sha256
    trainer = CuratedTrainer(
        model,
        args,
        train_dataset=pairs,
        eval_dataset=validation,
        prevalence=prevalences(dataset) if validation is not None else None,
        known=known,
        settings=settings,
        data_collator=PairCollator(
            tokenizer,
            model_arguments.image_size,
            model_arguments.max_text_length,
            args.padded_text_multiple,
            objective.collate,
        ),
        processing_class=CheXficientProcessor(CheXficientImageProcessor(model_arguments.image_size), tokenizer),
    )
    if reference is not None:
        # A run that goes on takes both counts from its checkpoint.
        trainer.encoder.spent["scored"] += reference.flops
        trainer.curator.pairs_scored += reference.pairs
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
        forget_earlier_run(Path(args.output_dir), _WRITTEN)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    run = describe_run(trainer, model_arguments, data)
    weights = trainer.gather_weights()
    # What is left may take rank 0 longer than the other ranks would wait at a barrier.
    leave_together()
    if trainer.is_world_process_zero():
        save_run(trainer, dataset, run, weights)


def save_run(
    trainer: CuratedTrainer, dataset: Dataset, run: PretrainRun, weights: dict[str, torch.Tensor] | None
) -> None:
    """Write the model and what is known of the run; `run.json` last, as the sign that all is there.

    Args:
        weights: of the trainer's `gather_weights`.
    """
    args, output_dir = trainer.args, Path(trainer.args.output_dir)
    with replaced_whole(output_dir / MODEL) as staged:
        trainer.save_whole(staged, weights)
    if trainer.schedule.selects:
        save_curated_subset(dataset, trainer.curation.kept_rows, output_dir / SUBSET_FILE)
        trainer.curation.save(output_dir)
    if trainer.discounting is not None:
        table = trainer.discounting.table(read_column(dataset, "record_id"))
        table.to_csv(output_dir / SUSPECTED_FILE, index=False)
        judged = int((trainer.discounting.judged > 0).sum())
        print(
            f"{len(table):,} of {judged:,} pairs that could be judged seem rather to have the report of another film "
            f"than their own: {SUSPECTED_FILE}"
        )
        if judged == 0:
            print("discount_wrong_reports changed nothing: this model could not tell reports apart in any batch")
    write_log(trainer.state.log_history, output_dir)
    run.weights_sha256 = weights_sha256(output_dir / MODEL)
    run.write(output_dir)
    if args.save_curated_dataset:
        save_curated_dataset(dataset, trainer.curation.kept_rows, run, Path(args.save_curated_dataset))
    if args.curation_report and trainer.schedule.selects:
        write_report(output_dir, dataset, show_films=args.report_galleries)
    print(
        f"kept {run.kept_pairs:,} of {run.corpus_pairs:,} pairs ({run.keep_share_reached:.1%}), trained on "
        f"{run.pairs_trained:,} and scored {run.pairs_scored:,} with {run.flops.total / 1e15:.3g} PFLOP in "
        f"{run.seconds:,.0f} s: {output_dir / MODEL}"
    )

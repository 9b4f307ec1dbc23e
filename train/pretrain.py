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
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, set_seed

from data_scripts.mixture import load_mixture
from eval.labels import prevalences
from eval.results import git_commit, package_versions
from modeling_chexficient import CheXficientConfig, CheXficientImageProcessor, CheXficientModel, CheXficientProcessor
from train.arguments import CuratedTrainingArguments, DataArguments, ModelArguments, parse_recipe
from train.checkpoints import STAGING, find_checkpoint, newest_checkpoint, why_incomplete
from train.curated_dataset import SUBSET_FILE, check_target, save_curated_dataset, save_curated_subset
from train.curation_report.page import write_report
from train.curation_state import STATE_FILE
from train.distributed import from_first, leave_together, rank, sum_over_processes, wait_for_all, world_size
from train.pairs import COLUMNS, PairCollator, PairDataset
from train.trainer import CuratedTrainer
from train.vocabulary import learn_vocabulary

#: Where things lie and who may see them says nothing about a run; `max_steps` is in the schedule.
_NOT_SETTINGS = (
    *("output_dir", "dataset_dir", "mixture", "hub_token", "run_name", "logging_dir", "max_steps", "disable_tqdm"),
    *("resume_from_checkpoint", "save_curated_dataset", "logging_nan_inf_filter", "accelerator_config"),
    *("activation_checkpointing", "max_skipped_in_a_row"),
)
#: What changes how a run is watched, saved or fed, and not what it learns.
_WATCHING = re.compile(
    r"^(logging_|log_|save_|eval_|do_eval|report_|dataloader_(?!drop)|map_sample|curation_report|per_device_eval|"
    r"ddp_timeout|disable_tqdm|skip_memory|include_|push_|hub_|run_name|project|trackio|on_nonfinite|chunk_size)"
)


def build_tokenizer(arguments: ModelArguments, reports: Iterable[str]):
    """The tokenizer named, or the text tower's, or one learnt from `reports`; it truncates at `max_text_length`."""
    name = arguments.tokenizer or arguments.text_model or arguments.model
    if name is None:
        return learn_vocabulary(reports, max_length=arguments.max_text_length)
    tokenizer = AutoTokenizer.from_pretrained(name)
    # Chunks are cut to their longest text from the right.
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = arguments.max_text_length
    return tokenizer


def build_model(arguments: ModelArguments, tokenizer, seed: int) -> CheXficientModel:
    """The model with pretrained or new towers; `seed` decides all new weights.

    Raises:
        ValueError: a longest text beyond the text tower's positions, or more words than its embedding.
    """
    set_seed(seed)
    space = {
        "projection_dim": arguments.projection_dim,
        "logit_scale_init_value": arguments.logit_scale_init_value,
        "text_pooling": arguments.text_pooling,
    }
    if arguments.model is not None:
        model = CheXficientModel.from_pretrained(arguments.model, dtype=torch.float32)
    elif arguments.vision_model is not None:
        towers = arguments.vision_model, arguments.text_model
        model = CheXficientModel.from_vision_text_pretrained(*towers, image_size=arguments.image_size, **space)
    else:
        vision = _tower_config(arguments.vision_config, image_size=arguments.image_size)
        text = _tower_config(arguments.text_config, vocab_size=len(tokenizer))
        model = CheXficientModel(CheXficientConfig(vision, text, **space))
    text = model.config.text_config
    positions = getattr(text, "max_position_embeddings", arguments.max_text_length)
    if arguments.max_text_length > positions:
        raise ValueError(f"max_text_length is {arguments.max_text_length}, the text tower has {positions} positions")
    if len(tokenizer) > text.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} words, the text tower {text.vocab_size}: give the tokenizer that "
            "belongs to it"
        )
    return model


def _tower_config(values: dict, **sizes: int):
    """A new tower's configuration; `sizes` are filled in where its kind has them (a ResNet takes any image size)."""
    if "model_type" not in values:
        raise ValueError(f"a tower configuration needs a model_type, got {values}")
    config = AutoConfig.for_model(**values)
    for name, size in sizes.items():
        if hasattr(config, name) and name not in values:
            setattr(config, name, size)
    return config


def changed_settings(arguments) -> dict:
    """The arguments that differ from their defaults, without paths and secrets: with the commit, the whole setting."""
    settings = {}
    for one in dataclasses.fields(arguments):
        value = getattr(arguments, one.name)
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        # What is switched off by False where the default is None was not changed.
        if value != default and (value or default) and one.name not in _NOT_SETTINGS:
            settings[one.name] = value if isinstance(value, (int, float, str, bool, dict, list)) else str(value)
    return settings | ({"torch_compile": True} if getattr(arguments, "compile_towers", None) is not None else {})


def settings_of_the_result(*arguments) -> dict:
    """The arguments that decide what is learnt: they must be equal in a run that is resumed."""
    settings = {name: value for one in arguments for name, value in changed_settings(one).items()}
    return {name: value for name, value in settings.items() if not _WATCHING.match(name)}


def describe_run(trainer: CuratedTrainer, arguments: tuple[ModelArguments, DataArguments]) -> dict:
    """What `run.json` says: the settings, and what was spent (over all processes, also before a resumption)."""
    args = trainer.args
    spent = trainer.spent()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "selection": args.selection,
        "keep_share_asked": args.keep_share,
        "keep_share_reached": trainer.curation.kept_share if trainer.schedule.selects else 1.0,
        "corpus_pairs": trainer.schedule.num_rows,
        "corpus_fingerprint": trainer.train_dataset.fingerprint,
        "kept_pairs": int(trainer.curation.kept.sum()) if trainer.schedule.selects else trainer.schedule.num_rows,
        "seed": args.seed,
        "schedule": dataclasses.asdict(trainer.schedule),
        "steps": trainer.state.global_step,
        "skipped_batches": trainer.skipped_batches,
        "pairs_trained": spent["pairs_trained"],
        "pairs_scored": spent["pairs_scored"],
        "flops": {
            "trained": spent["flops_trained"],
            "scored": spent["flops_scored"],
            "total": spent["flops_trained"] + spent["flops_scored"],
        },
        "final_loss": losses[-1] if losses else None,
        "seconds": trainer.seconds(),
        "processes": world_size(),
        "device": torch.cuda.get_device_name() if args.device.type == "cuda" else str(args.device),
        "mixture": dataclasses.asdict(arguments[1].read()),
        "settings": changed_settings(arguments[0]) | changed_settings(args),
        "git_commit": git_commit(),
        "packages": package_versions(),
    }


def main(arguments: list[str] | None = None) -> None:
    dataclass_types = (ModelArguments, DataArguments, CuratedTrainingArguments)
    try:
        pretrain(*parse_recipe(dataclass_types, sys.argv[1:] if arguments is None else arguments))
    except (ValueError, OSError, FloatingPointError) as error:
        raise SystemExit(f"error: {error}") from error


def forget_earlier_run(output_dir: Path) -> None:
    """Remove what an earlier run wrote about itself: it must not speak for this one."""
    names = ("run.json", "log.json", SUBSET_FILE, STATE_FILE, "curation_report.html", "curation_report.json")
    for name in names:
        (output_dir / name).unlink(missing_ok=True)
    shutil.rmtree(output_dir / STAGING, ignore_errors=True)


def checkpoint_to_resume(args: CuratedTrainingArguments) -> Path | None:
    """The checkpoint to go on from, if that is wanted and there is one; the first process decides for all.

    Raises:
        ValueError: the one named is not whole, another process does not see it whole, or there are checkpoints and no
            word about them.
    """
    output_dir, problem, checkpoint = Path(args.output_dir), None, None
    if rank() == 0:
        try:
            if args.resume_from_checkpoint:
                checkpoint = find_checkpoint(output_dir, args.resume_from_checkpoint)
                if checkpoint is None:
                    print(f"{output_dir} holds no whole checkpoint: starting from the beginning")
            elif newest_checkpoint(output_dir) is not None:
                problem = (
                    f"{output_dir} holds checkpoints of an earlier run: go on with --resume_from_checkpoint last, "
                    "choose another --output_dir, or delete them"
                )
        except ValueError as error:
            problem = str(error)
    checkpoint, problem = from_first((checkpoint, problem))
    if problem is None and checkpoint is not None:
        reason = why_incomplete(checkpoint)
        if sum_over_processes(torch.tensor(int(reason is not None))) > 0:
            problem = (
                f"{checkpoint}: not all processes see it whole ({reason or 'this one does'}); put it where all can"
            )
    if problem is not None:
        raise ValueError(problem)
    return checkpoint


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
    run = describe_run(trainer, (model_arguments, data))
    # What is left may take the first process longer than the others would wait.
    leave_together()
    if trainer.is_world_process_zero():
        save_run(trainer, dataset, run)


def save_run(trainer: CuratedTrainer, dataset: Dataset, run: dict) -> None:
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
    (output_dir / "run.json").write_text(json.dumps(run, indent=2) + "\n")
    if args.save_curated_dataset:
        save_curated_dataset(dataset, trainer.curation.kept_rows, run, Path(args.save_curated_dataset))
    if args.curation_report and trainer.schedule.selects:
        write_report(output_dir, dataset, show_films=args.report_galleries)
    print(
        f"kept {run['kept_pairs']:,} of {run['corpus_pairs']:,} pairs ({run['keep_share_reached']:.1%}), trained on "
        f"{run['pairs_trained']:,} and scored {run['pairs_scored']:,} with {run['flops']['total'] / 1e15:.3g} PFLOP in "
        f"{run['seconds']:,.0f} s: {model_dir}"
    )


if __name__ == "__main__":
    main()

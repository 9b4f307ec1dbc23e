"""Curated contrastive pretraining, from prepared data to a model folder.

    accelerate launch -m train.pretrain train/recipes/demo.yaml [--argument value ...]
    torchrun --nproc_per_node 2 -m train.pretrain train/recipes/demo.yaml --use_cpu

Writes into `output_dir`: `model/` (loads with `AutoModel`, with our code beside the weights), `curated_subset.parquet`
(row and record id of every kept pair), `log.json` and `run.json` (what was done, at what cost).
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from transformers import AutoConfig, AutoTokenizer, set_seed

from eval.labels import prevalences
from eval.results import git_commit, package_versions
from modeling_chexficient import CheXficientConfig, CheXficientImageProcessor, CheXficientModel, CheXficientProcessor
from train.arguments import CuratedTrainingArguments, DataArguments, ModelArguments, parse_recipe
from train.curation_state import STATE_FILE
from train.distributed import world_size
from train.pairs import PairCollator, PairDataset, load_split
from train.trainer import CuratedTrainer
from train.vocabulary import learn_vocabulary

SUBSET_FILE = "curated_subset.parquet"
#: Where things lie and who may see them says nothing about a run; `max_steps` is in the schedule.
_NOT_SETTINGS = ("output_dir", "dataset_dir", "hub_token", "run_name", "logging_dir", "max_steps", "disable_tqdm")


def build_tokenizer(arguments: ModelArguments, reports: Iterable[str]):
    """The tokenizer named, or the text tower's, or one learnt from `reports`; it truncates at `max_text_length`."""
    name = arguments.tokenizer or arguments.text_model
    if name is None:
        return learn_vocabulary(reports, max_length=arguments.max_text_length)
    tokenizer = AutoTokenizer.from_pretrained(name)
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
    if arguments.vision_model is not None:
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


def save_curated_subset(dataset: Dataset, rows: list[int], path: Path) -> None:
    """Row numbers (of the training split as loaded) and record ids of the kept pairs."""
    record_ids = dataset.select_columns(["record_id"])[rows]["record_id"] if rows else []
    pq.write_table(pa.table({"row": pa.array(rows, pa.int64()), "record_id": pa.array(record_ids, pa.string())}), path)


def changed_settings(arguments) -> dict:
    """The arguments that differ from their defaults, without paths and secrets: with the commit, the whole setting."""
    settings = {}
    for one in dataclasses.fields(arguments):
        value = getattr(arguments, one.name)
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        if value != default and one.name not in _NOT_SETTINGS:
            settings[one.name] = value if isinstance(value, (int, float, str, bool, dict, list)) else str(value)
    return settings


def describe_run(
    trainer: CuratedTrainer, arguments: tuple[ModelArguments, DataArguments], seconds: float, loss: float
) -> dict:
    """What `run.json` says: the settings, and what was spent."""
    args = trainer.args
    curates = args.selection != "none"
    return {
        "selection": args.selection,
        "keep_share_asked": args.keep_share,
        "keep_share_reached": trainer.curation.kept_share if curates else 1.0,
        "corpus_pairs": trainer.schedule.num_rows,
        "kept_pairs": int(trainer.curation.kept.sum()) if curates else trainer.schedule.num_rows,
        "seed": args.seed,
        "schedule": dataclasses.asdict(trainer.schedule),
        "steps": trainer.state.global_step,
        "pairs_trained": trainer.pairs_trained,
        "pairs_scored": trainer.pairs_scored,
        "final_loss": loss,
        "seconds": seconds,
        "processes": world_size(),
        "device": torch.cuda.get_device_name() if args.device.type == "cuda" else str(args.device),
        "dataset_dir": arguments[1].dataset_dir,
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
    for name in ("run.json", "log.json", SUBSET_FILE, STATE_FILE):
        (output_dir / name).unlink(missing_ok=True)


def pretrain(model_arguments: ModelArguments, data: DataArguments, args: CuratedTrainingArguments) -> None:
    # One process reads (and caches) the data first; the others find it ready.
    with args.main_process_first(desc="loading the dataset"):
        dataset = load_split(data.dataset_dir, "train")
        validation = load_split(data.dataset_dir, "validation") if args.eval_strategy != "no" else None
    tokenizer = build_tokenizer(model_arguments, dataset["report"])
    model = build_model(model_arguments, tokenizer, args.seed)
    sources = sorted(dataset.unique("source")) if "source" in dataset.column_names else []
    # Evaluation says so next to a figure on a corpus that the model was trained on.
    model.config.pretraining_sources = sources
    processor = CheXficientProcessor(CheXficientImageProcessor(model_arguments.image_size), tokenizer)
    trainer = CuratedTrainer(
        model,
        args,
        train_dataset=PairDataset(dataset),
        eval_dataset=validation,
        prevalence=prevalences(dataset) if validation is not None else None,
        data_collator=PairCollator(tokenizer, model_arguments.image_size, model_arguments.max_text_length),
        processing_class=processor,
    )
    forget_earlier_run(Path(args.output_dir))
    started = time.perf_counter()
    outcome = trainer.train()
    seconds = time.perf_counter() - started
    model_dir = Path(args.output_dir) / "model"
    trainer.save_model(str(model_dir))
    if trainer.is_world_process_zero():
        # Trainer pickles its arguments; a pickle has no place in a folder that may be published.
        (model_dir / "training_args.bin").unlink(missing_ok=True)
        if args.selection != "none":
            rows = trainer.curation.kept_rows.tolist()
            save_curated_subset(dataset, rows, model_dir.with_name(SUBSET_FILE))
            trainer.curation.save(model_dir.parent)
        run = describe_run(trainer, (model_arguments, data), seconds, outcome.training_loss)
        model_dir.with_name("run.json").write_text(json.dumps(run, indent=2) + "\n")
        model_dir.with_name("log.json").write_text(json.dumps(trainer.state.log_history, indent=2) + "\n")
        print(
            f"kept {run['kept_pairs']:,} of {run['corpus_pairs']:,} pairs ({run['keep_share_reached']:.1%}), "
            f"trained on {run['pairs_trained']:,} and scored {run['pairs_scored']:,} in {seconds:,.0f} s: {model_dir}"
        )


if __name__ == "__main__":
    main()

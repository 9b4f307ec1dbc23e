"""Turn released CheXficient weights into a folder that transformers' Auto classes load.

    python -m modeling_chexficient.convert_checkpoint SRC DST --tokenizer emilyalsentzer/Bio_ClinicalBERT
    python -m modeling_chexficient.convert_checkpoint PROBE_OR_UNET DST --labels "lungs,heart"

The tensors tell whether SRC is the dual encoder, a linear probe (`AutoModelForImageClassification`) or a U-Net
(`AutoModelForSemanticSegmentation`). SRC is a released `pytorch_model.pth` (or a bare state dict), a `.safetensors`
file, or a folder that holds either, in one file or in shards. Sizes are read from the tensors; the number of attention
heads is not in them. The tensors of the published curation go beside the model: `prototypes.safetensors`, and
`curated_subset.json` with the ids that were kept.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .configuration_chexficient import CheXficientConfig
from .image_processing_chexficient import CheXficientImageProcessor
from .modeling_chexficient import CheXficientModel
from .modeling_chexficient_heads import CheXficientForImageClassification, CheXficientForSemanticSegmentation
from .processing_chexficient import CheXficientProcessor
from .released_files import load_released
from .released_heads import PROBE, PROBLEM_TYPES, UNET, config_kind
from .released_weights import (
    PROTOTYPES,
    PUBLISHED_HEADS,
    check_tensors,
    dropped_tensors,
    infer_config,
    rename_tensors,
)
from .towers_chexficient import CheXficientPreTrainedModel

HEADS = {PROBE: CheXficientForImageClassification, UNET: CheXficientForSemanticSegmentation}


@dataclass
class Converted:
    """Where the folder was written, and what went into it."""

    folder: Path
    model: CheXficientPreTrainedModel
    dropped: list[str] = field(default_factory=list)
    subset_size: int | None = None
    prototypes: tuple[int, ...] | None = None
    with_tokenizer: bool = False


def build_model(tensors: dict[str, torch.Tensor], config: CheXficientConfig) -> CheXficientPreTrainedModel:
    """Check released tensors and load them into the model or head of this configuration."""
    check_tensors(tensors, config)
    kind = config_kind(config)
    model_class: type[CheXficientPreTrainedModel] = CheXficientModel if kind is None else HEADS[kind]
    # A pair, with `output_loading_info`.
    loaded: Any = model_class.from_pretrained(
        None, config=config, state_dict=rename_tensors(tensors, config), output_loading_info=True
    )
    model, report = loaded
    left = {kind: report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if report[kind]}
    if left:
        raise RuntimeError(f"This version of transformers reads the towers by other names: {left}")
    return model


def load_tokenizer(name_or_path: str, config: CheXficientConfig) -> PreTrainedTokenizerBase:
    """Load a tokenizer and limit it to the positions of the text tower.

    Raises ValueError where it knows more tokens than the word embedding has rows.
    """
    tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    rows = config.text_config.vocab_size
    if len(tokenizer) > rows:
        raise ValueError(f"The tokenizer {name_or_path} has {len(tokenizer)} tokens, the word embedding {rows} rows")
    tokenizer.model_max_length = min(tokenizer.model_max_length, config.text_config.max_position_embeddings)
    return tokenizer


def convert(
    source: Path | str,
    destination: Path | str,
    tokenizer: str | None = None,
    vision_heads: int = PUBLISHED_HEADS,
    text_heads: int = PUBLISHED_HEADS,
    labels: Sequence[str] | None = None,
    problem_type: str = PROBLEM_TYPES[0],
    clip_logits: bool = False,
) -> Converted:
    """Convert released weights into a folder; see the module's docstring for what it reads and writes.

    `labels`, `problem_type` and `clip_logits` are of heads, see `infer_head_config`.

    Raises FileExistsError where the destination already holds files, and what the steps raise. Nothing is written
    before all of the input has been checked.
    """
    destination = Path(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise FileExistsError(f"{destination} exists and is not an empty folder: name a new one")
    released = load_released(source)
    config = infer_config(released.tensors, vision_heads, text_heads, labels, problem_type, clip_logits)
    if tokenizer is not None and config_kind(config):
        raise ValueError("This is a head on the image tower: it reads no text and takes no tokenizer")
    model = build_model(released.tensors, config)
    image_processor = CheXficientImageProcessor(size=config.vision_config.image_size)
    processor: CheXficientImageProcessor | CheXficientProcessor = image_processor
    if tokenizer is not None:
        processor = CheXficientProcessor(image_processor, load_tokenizer(tokenizer, config))

    model.save_pretrained(destination)
    processor.save_pretrained(destination)
    prototypes = released.tensors.get(PROTOTYPES)
    if prototypes is not None:
        save_file({PROTOTYPES: prototypes.contiguous()}, destination / "prototypes.safetensors")
    if released.subset is not None:
        (destination / "curated_subset.json").write_text(json.dumps(released.subset) + "\n")
    return Converted(
        folder=destination,
        model=model,
        dropped=dropped_tensors(released.tensors, config),
        subset_size=None if released.subset is None else len(released.subset),
        prototypes=None if prototypes is None else tuple(prototypes.shape),
        with_tokenizer=tokenizer is not None,
    )


def summary(converted: Converted) -> str:
    """What was written, in words."""
    config, name = converted.model.config, type(converted.model).__name__
    vision, text = config.vision_config, config.text_config
    lines = [
        f"Wrote {converted.folder}: {name}, {converted.model.num_parameters():,} parameters",
        f"  image tower: {vision.num_hidden_layers} layers x {vision.hidden_size}, {vision.num_attention_heads} heads, "
        f"{vision.image_size} px, patch {vision.patch_size}",
    ]
    if config_kind(config):
        lines.append(f"  head: {config.problem_type}, {', '.join(config.id2label.values())}")
        lines.append("  processor: image processor")
    else:
        lines.append(
            f"  text tower: {text.num_hidden_layers} layers x {text.hidden_size}, {text.num_attention_heads} heads, "
            f"{text.vocab_size} tokens, {text.max_position_embeddings} positions"
        )
        lines.append(
            "  processor: image processor and tokenizer"
            if converted.with_tokenizer
            else "  NO processor: only the image processor was written; pass --tokenizer to add the tokenizer"
        )
    if converted.prototypes is not None:
        lines.append(f"  prototypes.safetensors: {converted.prototypes}")
    if converted.subset_size is not None:
        lines.append(f"  curated_subset.json: {converted.subset_size:,} ids")
    if converted.dropped:
        lines.append(f"  not part of the model: {', '.join(converted.dropped)}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the conversion."""
    parser = argparse.ArgumentParser(
        prog="python -m modeling_chexficient.convert_checkpoint", description=__doc__.splitlines()[0]
    )
    parser.add_argument("source", metavar="SRC", help="released .pth or .safetensors file, or a folder with one")
    parser.add_argument("destination", metavar="DST", help="new folder")
    parser.add_argument("--tokenizer", help="folder or Hub name of the text tower's tokenizer")
    parser.add_argument("--vision-heads", type=int, default=PUBLISHED_HEADS, help="default: %(default)s")
    parser.add_argument("--text-heads", type=int, default=PUBLISHED_HEADS, help="default: %(default)s")
    parser.add_argument("--labels", help="names of a head's classes, separated by commas; default: LABEL_0,LABEL_1,...")
    parser.add_argument("--problem-type", choices=PROBLEM_TYPES, default=PROBLEM_TYPES[0], help="default: %(default)s")
    parser.add_argument(
        "--clip-logits", action="store_true", help="let a U-Net end with GELU as the released code does"
    )
    options = vars(parser.parse_args(arguments))
    if options["labels"] is not None:
        options["labels"] = [label.strip() for label in options["labels"].split(",")]
    try:
        converted = convert(**options)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(summary(converted))


if __name__ == "__main__":
    main()

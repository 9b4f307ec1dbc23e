"""Turn released CheXficient weights into a folder that `AutoModel` and `AutoProcessor` load.

    python -m modeling_chexficient.convert_checkpoint SRC DST --tokenizer emilyalsentzer/Bio_ClinicalBERT

SRC is a released `pytorch_model.pth` (or a bare state dict), a `.safetensors` file, or a folder that holds either, in
one file or in shards. Sizes are read from the tensors; the number of attention heads is not in them. The tensors of the
published curation go beside the model: `prototypes.safetensors`, and `curated_subset.json` with the ids that were kept.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .configuration_chexficient import CheXficientConfig
from .image_processing_chexficient import CheXficientImageProcessor
from .modeling_chexficient import CheXficientModel
from .processing_chexficient import CheXficientProcessor
from .released_weights import (
    DROPPED,
    PROTOTYPES,
    PUBLISHED_HEADS,
    check_tensors,
    infer_config,
    load_released,
    rename_tensors,
)


@dataclass
class Converted:
    """Where the folder was written, and what went into it."""

    folder: Path
    model: CheXficientModel
    dropped: list[str] = field(default_factory=list)
    subset_size: int | None = None
    prototypes: tuple[int, ...] | None = None
    with_tokenizer: bool = False


def build_model(tensors: dict[str, torch.Tensor], config: CheXficientConfig) -> CheXficientModel:
    """Check released tensors and load them into a model of this configuration."""
    check_tensors(tensors, config)
    model, report = CheXficientModel.from_pretrained(
        None, config=config, state_dict=rename_tensors(tensors, config), output_loading_info=True
    )
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
) -> Converted:
    """Convert released weights into a folder; see the module's docstring for what it reads and writes.

    Raises FileExistsError where the destination already holds files, and what the steps raise. Nothing is written
    before all of the input has been checked.
    """
    destination = Path(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise FileExistsError(f"{destination} exists and is not an empty folder: name a new one")
    released = load_released(source)
    config = infer_config(released.tensors, vision_heads, text_heads)
    model = build_model(released.tensors, config)
    image_processor = CheXficientImageProcessor(size=config.vision_config.image_size)
    processor = image_processor
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
        dropped=sorted(name for name in released.tensors if DROPPED.fullmatch(name)),
        subset_size=None if released.subset is None else len(released.subset),
        prototypes=None if prototypes is None else tuple(prototypes.shape),
        with_tokenizer=tokenizer is not None,
    )


def summary(converted: Converted) -> str:
    """What was written, in words."""
    vision, text = converted.model.config.vision_config, converted.model.config.text_config
    lines = [
        f"Wrote {converted.folder}: {converted.model.num_parameters():,} parameters",
        f"  image tower: {vision.num_hidden_layers} layers x {vision.hidden_size}, {vision.num_attention_heads} heads, "
        f"{vision.image_size} px, patch {vision.patch_size}",
        f"  text tower: {text.num_hidden_layers} layers x {text.hidden_size}, {text.num_attention_heads} heads, "
        f"{text.vocab_size} tokens, {text.max_position_embeddings} positions",
    ]
    if converted.with_tokenizer:
        lines.append("  processor: image processor and tokenizer")
    else:
        lines.append("  NO processor: only the image processor was written; pass --tokenizer to add the tokenizer")
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
    options = parser.parse_args(arguments)
    try:
        converted = convert(
            options.source, options.destination, options.tokenizer, options.vision_heads, options.text_heads
        )
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(summary(converted))


if __name__ == "__main__":
    main()

"""The model of a pretraining run: a whole one, or two towers, and its tokenizer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, set_seed

from modeling_chexficient import CheXficientConfig, CheXficientImageProcessor, CheXficientModel
from modeling_chexficient.texts_chexficient import longest_text
from modeling_chexficient.towers_chexficient import resize_position_embeddings
from train.objectives.modes import has_batch_normalisation
from train.pretrain.arguments import ModelArguments
from train.pretrain.vocabulary import learn_vocabulary
from train.runs.depths import depth_of_parameters


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

    Where no image size is asked for, `arguments` get that of the whole model.

    Raises:
        ValueError: another joint space than that of the whole model, an image size that its tower cannot take, a
            longest text beyond the text tower's positions, or more words than its embedding.
    """
    set_seed(seed)
    model = _whole_model(arguments) if arguments.model is not None else _model_of_towers(arguments, len(tokenizer))
    text = model.config.text_config
    positions = longest_text(text)
    if positions is not None and arguments.max_text_length > positions:
        raise ValueError(f"max_text_length is {arguments.max_text_length}, the text tower has {positions} positions")
    if len(tokenizer) > text.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} words, the text tower {text.vocab_size}: give the tokenizer that "
            "belongs to it"
        )
    return model


def freeze_blocks(tower: nn.Module, count: int) -> None:
    """Freeze the first `count` blocks of a tower, and what stands before them: the backward pass ends there.

    Raises:
        ValueError: it has no blocks, or fewer, or batch normalisation, whose statistics would change all the same.
    """
    depths, blocks = depth_of_parameters(tower)
    if not 0 < count <= blocks:
        raise ValueError(f"freeze_blocks is {count}, and {type(tower).__name__} has {blocks} blocks")
    if has_batch_normalisation(tower):
        raise ValueError(
            f"freeze_blocks: {type(tower).__name__} has batch normalisation, whose statistics would change all the "
            "same: leave freeze_blocks out"
        )
    for name, parameter in tower.named_parameters():
        if depths[name] <= count:
            parameter.requires_grad_(False)


def _whole_model(arguments: ModelArguments) -> CheXficientModel:
    """The model to go on from, for images of another size where one is asked for."""
    model = CheXficientModel.from_pretrained(arguments.model, dtype=torch.float32)
    arguments.check_space(model.config)
    own_size = CheXficientImageProcessor.from_pretrained(arguments.model).size["shortest_edge"]
    if arguments.image_size is None:
        arguments.image_size = own_size
    elif arguments.image_size != own_size:
        resize_position_embeddings(model.vision_model, arguments.image_size)
    return model


def _model_of_towers(arguments: ModelArguments, words: int) -> CheXficientModel:
    """Two towers, each pretrained or new, under new projections; `words` are those of the tokenizer."""
    size, space = arguments.image_size, arguments.space
    vision = _tower_config(arguments.vision_config, image_size=size) if arguments.vision_config else None
    text = _tower_config(arguments.text_config, vocab_size=words) if arguments.text_config else None
    if vision is not None and text is not None:
        return CheXficientModel(CheXficientConfig(vision, text, **space))
    with tempfile.TemporaryDirectory() as folder:
        # A new tower beside a pretrained one is saved first: both then come from folders.
        names = [
            name or _save_new_tower(config, Path(folder, kind))
            for kind, name, config in (("vision", arguments.vision_model, vision), ("text", arguments.text_model, text))
        ]
        return CheXficientModel.from_vision_text_pretrained(*names, image_size=size, dtype=torch.float32, **space)


def _save_new_tower(config: PretrainedConfig, folder: Path) -> str:
    AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)


def _tower_config(values: dict, **sizes: int):
    """A new tower's configuration; `sizes` are filled in where its kind has them (a ResNet takes any image size)."""
    if "model_type" not in values:
        raise ValueError(f"a tower configuration needs a model_type, got {values}")
    config = AutoConfig.for_model(**values)
    for name, size in sizes.items():
        if hasattr(config, name) and name not in values:
            setattr(config, name, size)
    return config

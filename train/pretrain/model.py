"""The model of a pretraining run: a whole one, or two towers, and its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from transformers import AutoConfig, AutoTokenizer, set_seed

from modeling_chexficient import CheXficientConfig, CheXficientModel
from train.pretrain.arguments import ModelArguments
from train.pretrain.vocabulary import learn_vocabulary


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

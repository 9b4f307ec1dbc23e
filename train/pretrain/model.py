"""The model of a pretraining run: a whole one, or two towers, and its tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from transformers import AutoConfig, AutoTokenizer, set_seed

from modeling_chexficient import CheXficientConfig, CheXficientModel
from train.pretrain.vocabulary import learn_vocabulary


@dataclass
class ModelArguments:
    """Where the model comes from: a whole one to go on from (continual pretraining), two pretrained towers (a name or
    folder each), or two new ones (a configuration each). A whole model brings its tokenizer and image size.
    """

    model: str | None = field(default=None, metadata={"help": "Name or folder of a whole model to go on from."})
    vision_model: str | None = field(default=None, metadata={"help": "Name or folder of a pretrained vision tower."})
    text_model: str | None = field(default=None, metadata={"help": "Name or folder of a pretrained text tower."})
    vision_config: str | None = field(
        default=None, metadata={"help": "Configuration of a new vision tower: a mapping in YAML, JSON here."}
    )
    text_config: str | None = field(
        default=None, metadata={"help": "Configuration of a new text tower: a mapping in YAML, JSON here."}
    )
    tokenizer: str | None = field(
        default=None,
        metadata={
            "help": "Name or folder of the tokenizer; default: the model's or text tower's. With a new text tower and "
            "none given, a vocabulary is learnt from the training reports."
        },
    )
    image_size: int = field(default=378, metadata={"help": "Side of the square image the model sees, in pixels."})
    projection_dim: int = field(default=512, metadata={"help": "Size of the joint embedding space."})
    text_pooling: str = field(
        default="eos",
        metadata={
            "help": "Which text state stands for the report (published: eos).",
            "choices": ["eos", "cls", "mean"],
        },
    )
    logit_scale_init_value: float = field(
        default=math.log(100), metadata={"help": "Initial logarithm of the inverse temperature (published: ln 100)."}
    )
    max_text_length: int = field(default=256, metadata={"help": "Longest report, in tokens."})

    def __post_init__(self):
        for name in ("vision_config", "text_config"):
            value = getattr(self, name)
            if isinstance(value, str):
                setattr(self, name, json.loads(value))
        ways = [["model"], ["vision_model", "text_model"], ["vision_config", "text_config"]]
        given = [name for way in ways for name in way if getattr(self, name) is not None]
        if given not in ways:
            raise ValueError(
                "give model (a whole one), or vision_model and text_model (pretrained towers), or vision_config and "
                f"text_config (new ones), not {' with '.join(given) or 'neither'}"
            )
        if self.model is not None and self.tokenizer is not None:
            raise ValueError("model brings its own tokenizer: leave tokenizer out")


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

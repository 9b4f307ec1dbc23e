"""Other people's models at their smallest, built from configurations with random weights, as folders."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPImageProcessor,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    PreTrainedTokenizerFast,
    ResNetConfig,
    SiglipConfig,
    VisionTextDualEncoderConfig,
    ViTConfig,
)

SIDE = 56
_TOWER = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
VISION = {**_TOWER, "image_size": SIDE, "patch_size": 14}
_WORDS = ("[PAD]", "[BOS]", "[EOS]", "[UNK]", "no", "there", "is", "finding", "edema", "cardiomegaly", "effusion", "of")
TEXT = {
    **{**_TOWER, "num_hidden_layers": 2},
    **{"vocab_size": len(_WORDS), "max_position_embeddings": 24},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
_PLAIN = {name: value for name, value in VISION.items() if name != "intermediate_size"}

DUAL = {
    "clip": CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8),
    "siglip": SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=VISION),
    "dual": VisionTextDualEncoderConfig(
        vision_config={"model_type": "vit", **VISION}, text_config={"model_type": "bert", **TEXT}, projection_dim=8
    ),
}
VISION_ONLY = {
    "dinov2": Dinov2Config(**_PLAIN, mlp_ratio=2),
    "registers": Dinov2WithRegistersConfig(**_PLAIN, mlp_ratio=2),
    # Its images are of another size than its positions.
    "vit": ViTConfig(**{**VISION, "image_size": 28}),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
}


def save_tiny_model(kind: str, folder: Path, seed: int = 0) -> Path:
    """A model of `DUAL` or `VISION_ONLY` with its image processor and, of the former, a tokenizer of a few words."""
    torch.manual_seed(seed)
    AutoModel.from_config(({**DUAL, **VISION_ONLY})[kind]).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(folder)
    if kind in DUAL:
        tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(WordLevel({word: number for number, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing("[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]", unk_token="[UNK]"
    )

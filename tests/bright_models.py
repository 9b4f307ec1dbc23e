"""A model whose heat map is known: every phrase, and the finding "bright", is where the film is bright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import BertConfig, BertTokenizer, ResNetConfig

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForImageClassification,
    CheXficientImageProcessor,
    CheXficientModel,
    CheXficientProcessor,
)

SIDE = 64
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bright", "no"]


@torch.no_grad()
def bright_model() -> CheXficientModel:
    """Its tower's last map [16, 16] is the brightness around each place; the embedding's first number grows with it."""
    tower = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    text = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16
    )
    model = CheXficientModel(CheXficientConfig(tower, text, projection_dim=2)).eval()
    for name, parameter in model.vision_model.named_parameters():
        if "convolution" in name:
            parameter.zero_()
    model.vision_model.embedder.embedder.convolution.weight[0] = 1 / (3 * 7 * 7)
    model.visual_projection.weight.copy_(torch.eye(2, 8))
    model.visual_projection.bias.copy_(torch.tensor([0.0, 1.0]))
    model.text_projection.weight.zero_()
    model.text_projection.bias.copy_(torch.tensor([1.0, 0.0]))
    return model


def bright_processor() -> CheXficientProcessor:
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}, model_max_length=16)
    image_processor = CheXficientImageProcessor(SIDE, image_mean=[0.0] * 3, image_std=[1.0] * 3)
    return CheXficientProcessor(image_processor, tokenizer)


@torch.no_grad()
def bright_head() -> CheXficientForImageClassification:
    """Its outputs are the mean brightness ("bright") and a constant ("dull")."""
    config = bright_model().config
    config.id2label, config.problem_type = {0: "bright", 1: "dull"}, "multi_label_classification"
    head = CheXficientForImageClassification(config, bright_model().vision_model).eval()
    head.classifier.weight.copy_(torch.eye(2, 8))
    head.classifier.weight[1] = 0
    head.classifier.bias.fill_(0.5)
    return head


def save_bright(folder: Path, head: bool = False) -> Path:
    (bright_head() if head else bright_model()).save_pretrained(folder)
    processor = bright_processor()
    (processor.image_processor if head else processor).save_pretrained(folder)
    return folder


def film_with_square(size: tuple[int, int], corner: tuple[int, int], side: int = 12) -> Image.Image:
    """A dark, grainy film of `size` (width, height) with a bright square at `corner` (left, top)."""
    pixels = np.random.default_rng(0).integers(0, 100, (size[1], size[0]), dtype=np.uint8)
    left, top = corner
    pixels[top : top + side, left : left + side] = 230
    return Image.fromarray(pixels)

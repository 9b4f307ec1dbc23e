"""Batches of image-report pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_scripts.prepared.films import film_pixels
from data_scripts.schema import DataError


class PairCollator:
    """Makes a batch of pairs.

    Returns a dict with `rows` [B] int64, `lengths` [B] int64 (tokens of each text), `pixel_values`
    [B, 1 or 3, size, size] **uint8** (grey films stay one channel: they are expanded and normalised on the device), and
    the tokenizer's tensors [B, longest text].
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, image_size: int, max_text_length: int, text_multiple: int = 1
    ):
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.max_text_length = max_text_length
        self.text_multiple = text_multiple

    def __call__(self, pairs: list[dict]) -> dict[str, Tensor]:
        for pair in pairs:
            if not (pair["report"] or "").strip():
                raise DataError(f"record {pair['record_id']!r} (row {pair['row']}) has an empty report: leave it out")
        texts = self.tokenizer(
            [pair["report"] for pair in pairs],
            padding=True,
            truncation=True,
            max_length=self.max_text_length,
            pad_to_multiple_of=self.text_multiple,
            return_tensors="pt",
        )
        images = self.pixels([pair["image"] for pair in pairs])
        rows = torch.tensor([pair["row"] for pair in pairs])
        return {"rows": rows, "lengths": texts["attention_mask"].sum(dim=1), "pixel_values": images, **texts}

    def pixels(self, images: list) -> Tensor:
        return film_pixels(images, self.image_size)

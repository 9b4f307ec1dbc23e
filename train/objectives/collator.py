"""Batches of image-report pairs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_scripts.prepared.films import film_pixels
from data_scripts.schema import DataError
from train.objectives.batch import PairBatch, text_keys


class PairCollator:
    """Makes a batch of pairs.

    Grey films stay one channel, and all are uint8: they are expanded and normalised on the device.

    Args:
        tokenizer: of the text tower.
        image_size: side of the square images, in pixels.
        max_text_length: longer texts are cut to so many tokens.
        text_multiple: texts are padded to a multiple of so many tokens.
        extra: further tensors of the pairs, for the objective (see `Objective.collate`); None: no more.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int,
        max_text_length: int,
        text_multiple: int = 1,
        extra: Callable[[list[dict]], dict[str, Tensor]] | None = None,
    ):
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.max_text_length = max_text_length
        self.text_multiple = text_multiple
        self.extra = extra

    def __call__(self, pairs: list[dict]) -> PairBatch:
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
        lengths = texts["attention_mask"].sum(dim=1)
        return PairBatch(
            rows=torch.tensor([pair["row"] for pair in pairs]),
            lengths=lengths,
            text_keys=text_keys(texts["input_ids"], lengths),
            valid=torch.ones(len(pairs), dtype=torch.bool),
            pixel_values=self.pixels([pair["image"] for pair in pairs]),
            input_ids=texts["input_ids"],
            attention_mask=texts["attention_mask"],
            token_type_ids=texts.get("token_type_ids"),
            extra={} if self.extra is None else self.extra(pairs),
        )

    def pixels(self, images: list) -> Tensor:
        return film_pixels(images, self.image_size)

"""Batches of pairs through the towers in chunks, with a count of what that costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from modeling_chexficient import normalise_pixels
from train.objectives.batch import PairBatch
from train.runs.flops import PairFlops


def resize_pixels(pixels: Tensor, size: int) -> Tensor:
    """uint8 pixels [B, C, H, W] as [B, C, size, size], bicubic with antialiasing, on their device."""
    if pixels.shape[-1] == size:
        return pixels
    small = F.interpolate(pixels.float(), (size, size), mode="bicubic", antialias=True)
    return small.round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Chunk:
    """Some pairs of a batch: their `index` [n], the first `count` of them real, the rest padding (repeated pairs)."""

    index: Tensor
    count: int
    text_length: int


@dataclass
class Encoder:
    """How a batch of the collator becomes embeddings, chunk by chunk.

    Attributes:
        image_mean, image_std: of the image processor; pixels are normalised on the device.
        chunk_size: pairs that go through the towers at once.
        text_multiple: texts of a chunk are cut to its longest one, rounded up to a multiple of this.
        fixed_shapes: pad the last chunk to `chunk_size` (a compiled model recompiles for every new shape).
        autocast: context of mixed precision for the towers.
        flops: what a pair costs; None: not counted.
        spent: FLOP of this process, by what they were spent on.
    """

    image_mean: Sequence[float]
    image_std: Sequence[float]
    chunk_size: int
    text_multiple: int = 1
    fixed_shapes: bool = False
    autocast: Callable[[], AbstractContextManager] = nullcontext
    flops: PairFlops | None = None
    spent: dict[str, float] = field(default_factory=lambda: {"scored": 0.0, "trained": 0.0})

    def padded(self, lengths: Tensor) -> int:
        """Width of a tensor that holds texts of `lengths` tokens (on the CPU)."""
        return -(-int(lengths.max()) // self.text_multiple) * self.text_multiple

    def chunks(self, batch: PairBatch) -> list[Chunk]:
        """The pairs of a batch, cut into chunks of similar length; none is wider than the texts of the batch.

        Sorted by length, so that little padding is computed; nothing that is selected or learnt depends on the order.
        """
        order = batch.lengths.argsort(stable=True)
        chunks = []
        for index in order.split(self.chunk_size):
            count = len(index)
            text_length = self.padded(batch.lengths[index])
            if self.fixed_shapes and count < self.chunk_size:
                index = torch.cat([index, index[-1:].expand(self.chunk_size - count)])
            chunks.append(Chunk(index, count, min(text_length, batch.text_width)))
        return chunks

    def embed(self, model, batch: PairBatch, chunk: Chunk, image_size: int | None, spent_on: str):
        """Image and text embeddings, each [chunk.count, D] of unit norm; with or without gradient as the caller has it.

        Args:
            image_size: side of the images for this pass; None: as they are.
        """
        index = chunk.index.to(batch.device, non_blocking=True)
        pixels = batch.pixel_values[index]
        if image_size is not None:
            pixels = resize_pixels(pixels, image_size)
        texts = {name: tensor[index, : chunk.text_length] for name, tensor in batch.texts.items()}
        if self.flops is not None:
            cost = self.flops.pairs(len(index), pixels.shape[-1], chunk.text_length)
            self.spent[spent_on] += cost.forward + (cost.backward if torch.is_grad_enabled() else 0)
        with self.autocast():
            outputs = model(pixel_values=normalise_pixels(pixels, self.image_mean, self.image_std), **texts)
        return outputs.image_embeds[: chunk.count], outputs.text_embeds[: chunk.count]

    @torch.no_grad()
    def embed_all(
        self, model, batch: PairBatch, image_size: int | None = None, spent_on: str = "scored"
    ) -> tuple[Tensor, Tensor]:
        """Image and text embeddings [B, D] of a whole batch, without gradient, in the order of the batch, in fp32."""
        chunks = self.chunks(batch)
        parts = [self.embed(model, batch, chunk, image_size, spent_on) for chunk in chunks]
        order = torch.cat([chunk.index[: chunk.count] for chunk in chunks])
        return tuple(_in_order(torch.cat(embeds).float(), order) for embeds in zip(*parts, strict=True))

    def features(self, model, batch: PairBatch, image_size: int | None = None) -> Tensor:
        """Features [B, 2 D] of the pairs of a batch (see `pair_features`), without gradient."""
        return pair_features(*self.embed_all(model, batch, image_size))


def _in_order(rows: Tensor, order: Tensor) -> Tensor:
    """Undo a sorting: row i of `rows` goes to place `order[i]`."""
    restored = torch.empty_like(rows)
    restored[order.to(rows.device)] = rows
    return restored


def pair_features(image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
    """Features [B, 2 D] of unit norm from embeddings [B, D] each of unit norm."""
    return F.normalize(torch.cat([image_embeds, text_embeds], dim=-1).float(), dim=-1)

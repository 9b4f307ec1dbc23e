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
from train.runs.patch_dropping import PatchDropping

#: Sizes that chunks of fixed shapes may have, up to `chunk_size`: few, and of a batch of several large chunks at most a
#: twentieth is padding.
_SIZES = 40


def resize_pixels(pixels: Tensor, size: int) -> Tensor:
    """uint8 pixels [B, C, H, W] as [B, C, size, size], bicubic with antialiasing, on their device."""
    if pixels.shape[-1] == size:
        return pixels
    small = F.interpolate(pixels.float(), (size, size), mode="bicubic", antialias=True)
    return small.round_().clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Chunk:
    """Some pairs of a batch.

    Attributes:
        index: [n], the pairs; the first `count` of them are real, the rest padding (repeated pairs).
        text_length: columns that hold their texts.
        texts: [m], a pair of each text that is encoded.
        text_of: [n], which of `texts` a pair has; None: each pair has one of its own.
    """

    index: Tensor
    count: int
    text_length: int
    texts: Tensor
    text_of: Tensor | None = None


@dataclass
class Encoder:
    """How a batch of the collator becomes embeddings, chunk by chunk.

    Attributes:
        image_mean, image_std: of the image processor; pixels are normalised on the device.
        chunk_size: pairs that go through the towers at once, at most.
        text_multiple: texts of a chunk are cut to its longest one, rounded up to a multiple of this.
        fixed_shapes: pad chunks to few sizes (a compiled model recompiles for every new shape).
        autocast: context of mixed precision for the towers.
        flops: what a pair costs; None: not counted.
        dropping: of the image tower, where batches say which patches it sees.
        spent: FLOP of this process, by what they were spent on.
    """

    image_mean: Sequence[float]
    image_std: Sequence[float]
    chunk_size: int
    text_multiple: int = 1
    fixed_shapes: bool = False
    autocast: Callable[[], AbstractContextManager] = nullcontext
    flops: PairFlops | None = None
    dropping: PatchDropping | None = None
    spent: dict[str, float] = field(default_factory=lambda: {"scored": 0.0, "trained": 0.0})

    def padded(self, lengths: Tensor) -> int:
        """Width of a tensor that holds texts of `lengths` tokens (on the CPU)."""
        return -(-int(lengths.max()) // self.text_multiple) * self.text_multiple

    def chunks(self, batch: PairBatch, share_texts: bool = False) -> list[Chunk]:
        """The pairs of a batch, cut into chunks of nearly equal size; none is wider than the texts of the batch.

        Sorted by length, so that little padding is computed; nothing that is selected or learnt depends on the order.

        Args:
            share_texts: encode a text that several pairs of a chunk have once, not with fixed shapes. Exact where
                nothing is dropped: with dropout, each pair would have had a text embedding of its own.
        """
        # By length, and among these by text.
        order = batch.text_keys.argsort(stable=True)
        order = order[batch.lengths[order].argsort(stable=True)]
        size = -(-len(order) // -(-len(order) // self.chunk_size))
        if self.fixed_shapes:
            step = max(1, self.chunk_size // _SIZES)
            size = min(-(-size // step) * step, self.chunk_size)
        return [self._chunk(batch, index, size, share_texts) for index in order.split(size)]

    def _chunk(self, batch: PairBatch, index: Tensor, size: int, share_texts: bool) -> Chunk:
        """The pairs `index` [n <= size] of a batch, in order of their texts."""
        count, text_length = len(index), min(self.padded(batch.lengths[index]), batch.text_width)
        if self.fixed_shapes:
            index = torch.cat([index, index[-1:].expand(size - count)])
        if self.fixed_shapes or not share_texts:
            return Chunk(index, count, text_length, index)
        keys = batch.text_keys[index]
        first = torch.ones(count, dtype=torch.bool)
        first[1:] = keys[1:] != keys[:-1]
        return Chunk(index, count, text_length, index[first], first.cumsum(0) - 1)

    def embed(self, model, batch: PairBatch, chunk: Chunk, image_size: int | None, spent_on: str):
        """Image and text embeddings, each [chunk.count, D] of unit norm; with or without gradient as the caller has it.

        Args:
            image_size: side of the images for this pass; None: as they are.
        """
        films = chunk.index.to(batch.device, non_blocking=True)
        pixels = batch.pixel_values[films]
        if image_size is not None:
            pixels = resize_pixels(pixels, image_size)
        seen = None if batch.seen_patches is None else batch.seen_patches[films]
        index = chunk.texts.to(batch.device, non_blocking=True)
        texts = {name: tensor[index, : chunk.text_length] for name, tensor in batch.texts.items()}
        if self.flops is not None:
            patches = None if seen is None else seen.shape[1]
            cost = self.flops.pairs(len(pixels), pixels.shape[-1], chunk.text_length, len(index), patches)
            self.spent[spent_on] += cost.forward + (cost.backward if torch.is_grad_enabled() else 0)
        with self.autocast(), nullcontext() if seen is None else self.dropping.showing(seen):
            outputs = model(pixel_values=normalise_pixels(pixels, self.image_mean, self.image_std), **texts)
        images, texts = outputs.image_embeds, outputs.text_embeds
        if chunk.text_of is not None:
            texts = texts[chunk.text_of.to(batch.device, non_blocking=True)]
        return images[: chunk.count], texts[: chunk.count]

    @torch.no_grad()
    def embed_all(
        self, model, batch: PairBatch, image_size: int | None = None, spent_on: str = "scored"
    ) -> tuple[Tensor, Tensor]:
        """Image and text embeddings [B, D] of a whole batch in evaluation mode, in the order of the batch, in fp32."""
        chunks = self.chunks(batch, share_texts=True)
        parts = [self.embed(model, batch, chunk, image_size, spent_on) for chunk in chunks]
        order = order_of(chunks)
        return tuple(in_order(torch.cat(embeds).float(), order) for embeds in zip(*parts, strict=True))

    def features(self, model, batch: PairBatch, image_size: int | None = None) -> Tensor:
        """Features [B, 2 D] of the pairs of a batch (see `pair_features`), without gradient."""
        return pair_features(*self.embed_all(model, batch, image_size))


def order_of(chunks: list[Chunk]) -> Tensor:
    """The real pairs of chunks, one after the other."""
    return torch.cat([chunk.index[: chunk.count] for chunk in chunks])


def in_order(rows: Tensor, order: Tensor) -> Tensor:
    """Undo a sorting: row i of `rows` goes to place `order[i]`."""
    restored = torch.empty_like(rows)
    restored[order.to(rows.device)] = rows
    return restored


def pair_features(image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
    """Features [B, 2 D] of unit norm from embeddings [B, D] each of unit norm."""
    return F.normalize(torch.cat([image_embeds, text_embeds], dim=-1).float(), dim=-1)

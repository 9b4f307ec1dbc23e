"""The batch that collator, encoder, curator and objectives share: what each of its tensors is stands in its type."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

#: Kinds of the fields of a batch. Known: stays on the CPU, where it is read without waiting for the device.
_KNOWN = {"kind": "known"}
#: Images: all processes need as many colour channels before they exchange rows.
_IMAGE = {"kind": "image"}
#: Patches of the images, where some of them are dropped.
_PATCHES = {"kind": "patches"}
#: Texts: padded with zeros, and as wide as the longest one.
_TEXT = {"kind": "text"}


def text_keys(input_ids: Tensor, lengths: Tensor) -> Tensor:
    """[B] int64, a hash of the first `lengths` [B] tokens of each row of `input_ids` [B, width]."""
    rows = zip(input_ids.numpy(), lengths.tolist(), strict=True)
    digests = [hashlib.blake2b(row[:length].tobytes(), digest_size=8).digest() for row, length in rows]
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Image-report pairs, B of them.

    Attributes:
        rows: [B] int64, the row of each pair in the corpus; on the CPU.
        lengths: [B] int64, tokens of each text; on the CPU.
        text_keys: [B] int64, equal for pairs whose texts have the same tokens (`text_keys`); on the CPU.
        valid: [B] bool, False for padding rows, which repeat another pair so that all processes have equally many; on
            the CPU.
        pixel_values: [B, 1 or 3, size, size] uint8, grey films with one channel.
        seen_patches: [B, n] int64, the patches of each image that the image tower sees; None: all.
        input_ids, attention_mask, token_type_ids: [B, width] int64 of the tokenizer; the last one where it has any.
        weights: [B] fp32, 0 or above, how much the loss of each pair counts; on the CPU. None: all alike.
        extra: further tensors [B, ...] of each pair by name, as an objective asks for them (see
            `Objective.collate`). They are never padded or cut: their other dimensions are equal on all processes.
    """

    rows: Tensor = field(metadata=_KNOWN)
    lengths: Tensor = field(metadata=_KNOWN)
    text_keys: Tensor = field(metadata=_KNOWN)
    valid: Tensor = field(metadata=_KNOWN)
    pixel_values: Tensor = field(metadata=_IMAGE)
    input_ids: Tensor = field(metadata=_TEXT)
    attention_mask: Tensor = field(metadata=_TEXT)
    token_type_ids: Tensor | None = field(default=None, metadata=_TEXT)
    seen_patches: Tensor | None = field(default=None, metadata=_PATCHES)
    weights: Tensor | None = field(default=None, metadata=_KNOWN)
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        """Where images, texts and extra tensors are."""
        return self.pixel_values.device

    @property
    def text_width(self) -> int:
        """Columns of the text tensors."""
        return self.input_ids.shape[1]

    @property
    def texts(self) -> dict[str, Tensor]:
        """The text tensors by the names that a text tower has for them."""
        return self._of_kind(_TEXT)

    def to(self, device: torch.device) -> PairBatch:
        """The batch with images, texts and extra tensors on `device`; what is known of the pairs stays on the CPU."""
        return self.map_device(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> PairBatch:
        """The batch in pinned memory; torch's `DataLoader` calls this."""
        return self.map_device(Tensor.pin_memory)

    def select(self, index: Tensor) -> PairBatch:
        """The pairs at `index` [n], in its order."""
        known = {name: tensor[index.to(tensor.device)] for name, tensor in self._of_kind(_KNOWN).items()}
        return replace(self.map_device(lambda tensor: tensor[index.to(tensor.device)]), **known)

    def with_text_width(self, width: int) -> PairBatch:
        """The batch with its texts, and nothing else, padded or cut to `width` columns."""
        return replace(
            self, **{name: F.pad(tensor, (0, width - tensor.shape[1])) for name, tensor in self.texts.items()}
        )

    def with_channels(self, channels: int) -> PairBatch:
        """The batch with grey images expanded to `channels` channels."""
        return replace(self, pixel_values=self.pixel_values.expand(-1, channels, -1, -1))

    def map_device(self, function: Callable[[Tensor], Tensor]) -> PairBatch:
        """The batch with `function` of every tensor that goes to the device: images, texts and extra tensors."""
        tensors = self._of_kind(_IMAGE) | self._of_kind(_PATCHES) | self.texts
        changed = {name: function(tensor) for name, tensor in tensors.items()}
        return replace(self, **changed, extra={name: function(tensor) for name, tensor in self.extra.items()})

    def _of_kind(self, kind: dict[str, str]) -> dict[str, Tensor]:
        named = ((tensor.name, getattr(self, tensor.name)) for tensor in fields(self) if tensor.metadata == kind)
        return {name: tensor for name, tensor in named if tensor is not None}

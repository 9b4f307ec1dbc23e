"""Patches of a film that a ViT does not see: dropped behind its embeddings, with the places of the others kept.

Source: FLIP (Li et al., arXiv 2212.00794). The tower's class stays as it is: a hook takes the patches away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modeling_chexficient.decoders_chexficient import patch_grid

#: By `model_type`, towers whose embeddings are [B, tokens, C] with positions in them and patches last, and whose blocks
#: ask for no places. Others compute places in their blocks (BEiT, DINOv3), or merge or fold neighbours (Swin, ResNet).
TOWERS = (
    *("aimv2_vision_model", "chinese_clip_vision_model", "clip_vision_model", "deit", "dinov2"),
    *("dinov2_with_registers", "pixio", "siglip_vision_model", "vit", "vit_msn"),
)


def count_patches(tower: PreTrainedModel, size: int) -> int:
    """How many patches a ViT makes of an image of `size` x `size` pixels."""
    return math.prod(patch_grid(tower, torch.empty(1, 1, size, size, device="meta")))


def count_seen(patches: int, share: float) -> int:
    """How many of so many patches are left where `share` of them is dropped; at least one."""
    return max(1, round(patches * (1 - share)))


def draw_seen(rows: Tensor, patches: int, share: float, seed: int, number: int) -> Tensor:
    """[B, seen] int64, ascending: the patches of each film that are left where `share` of them is dropped.

    They depend on seed, batch and row alone: a film has the same ones in every chunk, pass and process, and in a run
    that goes on.

    Args:
        rows: [B], of the films in the corpus.
        patches: of a film.
        number: of the batch in the run.
    """
    noise = np.stack([np.random.default_rng((seed, number, row)).random(patches) for row in rows.tolist()])
    return torch.from_numpy(np.sort(noise.argsort(axis=1)[:, : count_seen(patches, share)]))


class PatchDropping:
    """Lets a tower see some patches alone, while `showing` lasts.

    Args:
        tower: an image tower.

    Raises:
        ValueError: it has no patches that can be dropped.
    """

    def __init__(self, tower: PreTrainedModel):
        if tower.config.model_type not in TOWERS:
            raise ValueError(
                f"patch_drop_share: {type(tower).__name__} has no patches that can be left out, since it merges "
                "neighbours or computes their places as it goes: leave patch_drop_share out (low_resolution_size saves "
                f"with any tower), or choose a tower of {', '.join(TOWERS)}"
            )
        self._tower = tower
        self._seen: Tensor | None = None
        # One hook for ever, which is told what to do: a compiled tower would not notice that hooks come and go.
        tower.embeddings.register_forward_hook(self._drop, with_kwargs=True)

    @contextmanager
    def showing(self, seen: Tensor | None) -> Iterator[None]:
        """While it lasts, of each image the tower sees the patches `seen` [B, n] int64 (None: all), which are numbered
        row by row from the top left.
        """
        self._seen = seen
        try:
            yield
        finally:
            self._seen = None

    def _drop(self, embeddings: nn.Module, given: tuple, named: dict, tokens: Tensor) -> Tensor:
        if self._seen is None:
            return tokens
        pixels = given[0] if given else named["pixel_values"]
        first = tokens.shape[1] - math.prod(patch_grid(self._tower, pixels))
        index = self._seen.unsqueeze(2).expand(-1, -1, tokens.shape[2])
        return torch.cat([tokens[:, :first], tokens[:, first:].gather(1, index)], dim=1)

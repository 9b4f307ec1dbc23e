"""What a step of self-distillation costs, counted by torch on a twin without weights (1 MAC = 2 FLOP)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from train.runs.flops import Cost, count
from train.self_supervised.head import DinoHead
from train.self_supervised.network import Network
from train.self_supervised.towers import features


class CropFlops:
    """Counts what crops cost student and teacher: tower and head. Attention is counted in its plain form; crops,
    the loss and the centring are left out.

    Args:
        recomputes: whether activations of the tower are computed again in the backward pass (gradient checkpointing).
    """

    def __init__(self, network: Network, recomputes: bool = False):
        backbone, head = network.backbone, network.head
        with torch.device("meta"):
            self._backbone = type(backbone)._from_config(backbone.config, attn_implementation="eager").eval()
            hidden, width = head.mlp[0].weight.shape
            self._head = DinoHead(width, head.prototypes, hidden, head.mlp[4].out_features)
        self._recomputes = recomputes
        self._width = width
        self._costs: dict[tuple[str, int], Cost] = {}

    def step(self, films: int, sizes: tuple[int, int], local_crops: int, masked: int) -> float:
        """FLOP of a step: the student forward and backward on all crops, the teacher forward on the global ones.

        Args:
            sizes: sides of global and local crops, in pixels.
            masked: patches that are predicted, in all crops together.
        """
        large, small, row = self._image(sizes[0]), self._image(sizes[1]) if local_crops else Cost(0, 0), self._row()
        student_rows = films * (2 + local_crops) + masked
        student = films * (2 * (large.forward + large.backward) + local_crops * (small.forward + small.backward))
        student += student_rows * (row.forward + row.backward)
        return student + 2 * films * large.forward + (2 * films + masked) * row.forward

    def _image(self, size: int) -> Cost:
        pixels = torch.empty(1, 3, size, size, device="meta")
        return self._count(("image", size), lambda: features(self._backbone, pixels)[0], self._recomputes)

    def _row(self) -> Cost:
        row = torch.empty(1, self._width, device="meta", requires_grad=True)
        return self._count(("row", 0), lambda: self._head(row), False)

    def _count(self, key: tuple[str, int], run: Callable[[], Tensor], recomputes: bool) -> Cost:
        if key not in self._costs:
            self._costs[key] = count(run, recomputes)
        return self._costs[key]

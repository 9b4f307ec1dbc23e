"""An exponential moving average of the weights, kept beside those that are trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback

#: In a checkpoint: the average.
AVERAGE_FILE = "average.safetensors"


class WeightAverage(TrainerCallback):
    """After every optimiser step, average = decay * average + (1 - decay) * weights, from the first weights on.

    Parameters and buffers of floating point are averaged, so that running statistics of batch normalisation belong to
    the averaged weights; other buffers are copied.

    Args:
        model: as it is trained, on its device.
        decay: in (0, 1), such as 0.999.

    Attributes:
        model: a model of the averaged weights, in evaluation mode.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.trained = model
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._average = get_ema_multi_avg_fn(decay)

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.update()

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the average."""
        pairs = self._pairs()
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        self._average(*map(list, zip(*floating, strict=True)), None)
        for averaged, present in pairs:
            if not averaged.is_floating_point():
                averaged.copy_(present)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The trained model with the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for averaged, present in self._pairs():
            kept = present.clone()
            present.copy_(averaged)
            averaged.copy_(kept)

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(_tensors(self.model), _tensors(self.trained), strict=True))

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        save_model(self.model, str(folder / AVERAGE_FILE))

    def load(self, folder: Path) -> None:
        """Take over what `save` wrote."""
        load_model(self.model, str(folder / AVERAGE_FILE))


def _tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once: tied ones would be averaged twice."""
    return [*model.parameters(), *model.buffers()]

"""What a run costs; floating-point operations of a pair, counted by torch once for each size (1 MAC = 2 FLOP)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from eval.records.runs import Flops
from train.runs.patch_dropping import PatchDropping


@dataclass(frozen=True)
class Cost:
    """FLOP of a forward pass and of the backward pass that may follow."""

    forward: float
    backward: float


def count(run: Callable[[], Tensor], recomputes: bool = False) -> Cost:
    """What `run` and the backward pass of its sum cost; modules and tensors may lie on the device "meta".

    Args:
        recomputes: whether activations are computed again in the backward pass (gradient checkpointing).
    """
    with torch.enable_grad():
        with FlopCounterMode(display=False) as forward:
            output = run()
        with FlopCounterMode(display=False) as backward:
            output.sum().backward()
    again = forward.get_total_flops() if recomputes else 0
    return Cost(forward.get_total_flops(), backward.get_total_flops() + again)


@dataclass
class Spent:
    """What a run has cost so far, over all processes and including what was spent before a resumption.

    Args:
        samples: pairs or films trained on; one that is seen again counts again.
        flops: floating-point operations; None where they cannot be counted.
        seconds: wall-clock time.
    """

    samples: int
    flops: Flops | None
    seconds: float


class PairFlops:
    """Counts what images and texts cost a model: its towers and projections, on a twin without weights.

    The loss and the selection are left out: they are less than a thousandth. Attention is counted in its plain form.

    Args:
        model: what does not learn in it costs no backward pass.
        recomputes: whether activations are computed again in the backward pass (gradient checkpointing).
    """

    def __init__(self, model: PreTrainedModel, recomputes: bool = False):
        with torch.device("meta"):
            self._twin = type(model)._from_config(model.config, attn_implementation="eager").eval()
        # Where nothing learns, the backward pass ends.
        learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        for name, parameter in self._twin.named_parameters():
            parameter.requires_grad_(learns[name])
        self._recomputes = recomputes
        self._dropping: PatchDropping | None = None
        self._costs: dict[tuple, Cost] = {}

    def image(self, size: int, seen: int | None = None) -> Cost:
        """Of one image of `size` x `size` pixels, of which the tower sees so many patches; None: all."""
        pixels = torch.empty(1, 3, size, size, device="meta")

        def embed() -> Tensor:
            if seen is None:
                return self._twin(pixel_values=pixels).image_embeds
            if self._dropping is None:
                self._dropping = PatchDropping(self._twin.vision_model)
            with self._dropping.showing(torch.zeros(1, seen, dtype=torch.long, device="meta")):
                return self._twin(pixel_values=pixels).image_embeds

        return self._count(("image", size, seen), embed)

    def text(self, length: int) -> Cost:
        """Of one text of `length` tokens."""
        tokens = torch.zeros(1, length, dtype=torch.long, device="meta")
        return self._count(("text", length), lambda: self._twin(input_ids=tokens).text_embeds)

    def pairs(
        self, count: int, image_size: int, text_length: int, texts: int | None = None, seen: int | None = None
    ) -> Cost:
        """Of `count` pairs whose texts are padded to `text_length` tokens.

        Args:
            texts: how many are encoded where pairs share some; None: one each.
            seen: patches of each image that the tower sees; None: all.
        """
        image, text = self.image(image_size, seen), self.text(text_length)
        texts = count if texts is None else texts
        return Cost(
            count * image.forward + texts * text.forward,
            count * image.backward + texts * text.backward,
        )

    def _count(self, key: tuple, embed: Callable[[], Tensor]) -> Cost:
        if key not in self._costs:
            self._costs[key] = count(embed, self._recomputes)
        return self._costs[key]

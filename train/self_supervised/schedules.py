"""What changes in a run besides the learning rate: momentum, temperature, weight decay, what stands still."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from train.runs.depths import depth_of_parameters

#: The patch embedding learns at this share of its rate (published).
PATCH_EMBEDDING_RATE = 0.2
#: Names of parameter groups that can stand still.
LAST_LAYER, BACKBONE, HEAD = "last layer", "backbone", "head"


def cosine(start: float, end: float, step: int, steps: int) -> float:
    """From `start` at step 0 along half a cosine to `end` at the last of `steps`."""
    progress = min(1.0, step / max(1, steps - 1))
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def linear(start: float, end: float, step: int, steps: int) -> float:
    """From `start` at step 0 straight to `end`, reached after `steps`, and `end` from there on."""
    return start + (end - start) * min(1.0, step / max(1, steps))


@dataclass(frozen=True)
class Standstill:
    """How many steps of a run the backbone, and the head's last layer, do not learn at first."""

    backbone: int
    last_layer: int

    def factor(self, part: str, step: int) -> float:
        """0 while a part stands still, else 1."""
        until = {BACKBONE: self.backbone, LAST_LAYER: self.last_layer}.get(part, 0)
        return float(step >= until)


def parameter_groups(
    backbone: nn.Module, head: nn.Module, rate: float, decay: float, weight_decay: float
) -> list[dict]:
    """Parameter groups of an optimiser; each has "part" and "decays", which says whether weight decay is for it.

    Args:
        rate: learning rate of the head and of what follows the tower's blocks; a block's is `decay` times that of the
            block above it, that of the patch embedding a fifth of the others before the blocks.
        weight_decay: none on biases, norms and layer scales, as published.
    """
    depths, count = depth_of_parameters(backbone)
    deepest = count + 1
    named = [(f"backbone.{name}", parameter) for name, parameter in backbone.named_parameters()]
    named += [(f"head.{name}", parameter) for name, parameter in head.named_parameters()]
    groups: dict[tuple, dict] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        part = BACKBONE if name.startswith("backbone.") else LAST_LAYER if "last_layer" in name else HEAD
        own_rate = rate * decay ** (deepest - depths.get(name.removeprefix("backbone."), deepest))
        own_rate *= PATCH_EMBEDDING_RATE if part == BACKBONE and "patch_embed" in name else 1
        decays = not (name.endswith(".bias") or "norm" in name or "layer_scale" in name)
        group = {"params": [], "lr": own_rate, "weight_decay": weight_decay * decays, "part": part, "decays": decays}
        groups.setdefault((own_rate, part, decays), group)["params"].append(parameter)
    return list(groups.values())


def hold_still(scheduler: LambdaLR, optimizer: Optimizer, standstill: Standstill) -> LambdaLR:
    """The scheduler, by which parts stand still at first; Adam gathers its moments meanwhile, as published."""
    parts: Sequence[str] = [group["part"] for group in optimizer.param_groups]
    scheduler.lr_lambdas = [
        lambda step, part=part, rule=rule: rule(step) * standstill.factor(part, step)
        for part, rule in zip(parts, scheduler.lr_lambdas, strict=True)
    ]
    for group, rule, base in zip(optimizer.param_groups, scheduler.lr_lambdas, scheduler.base_lrs, strict=True):
        group["lr"] = base * rule(scheduler.last_epoch)
    return scheduler


def set_weight_decay(optimizer: Optimizer, value: float) -> None:
    """For the parameters that decay."""
    for group in optimizer.param_groups:
        group["weight_decay"] = value * group["decays"]

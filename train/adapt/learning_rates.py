"""Learning rates by layer: heads are new and learn faster than the rest, blocks near the pixels slower."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from train.adapt.methods import Parts, unwrapped
from train.runs.depths import depth_of_parameters

#: What names begin with in a model that PEFT has wrapped.
_WRAPPED = "base_model.model."


def depth_of_parameters_in(model: nn.Module, parts: Parts) -> dict[str, int]:
    """As `depth_of_parameters` of the tower has it; what is no part of the tower lies behind its blocks.

    Names are those within PEFT's wrapping.
    """
    model = unwrapped(model)
    tower = model.get_submodule(parts.tower)
    depths, count = depth_of_parameters(tower)
    if count == 0:
        raise ValueError(f"layer_decay: {type(tower).__name__} has no list of blocks: leave layer_decay out")
    prefix = f"{parts.tower}."
    names = [name for name, _ in model.named_parameters()]
    return {name: depths[name.removeprefix(prefix)] if name.startswith(prefix) else count + 1 for name in names}


def parameter_groups(
    model: nn.Module,
    parts: Parts,
    rate: float,
    head_rate: float | None,
    decay: float,
    weight_decay: float,
    decayed: Collection[str],
) -> list[dict]:
    """Parameter groups of an optimiser for what is trained.

    Args:
        model: perhaps within PEFT's wrapping.
        rate: learning rate of what follows the blocks; with `decay` below 1, a block's is `decay` times that of the
            block above it.
        head_rate: learning rate of the heads; None: `rate`.
        weight_decay: of the parameters whose names are in `decayed`; 0 for the others.
    """
    depths = depth_of_parameters_in(model, parts) if decay != 1 else {}
    deepest = max(depths.values(), default=0)
    groups: dict[tuple[float, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        own_rate = rate * decay ** (deepest - depths.get(name.removeprefix(_WRAPPED), deepest))
        if head_rate is not None and any(f".{head}." in f".{name}" for head in parts.heads):
            own_rate = head_rate
        key = (own_rate, name in decayed)
        groups.setdefault(key, {"params": [], "lr": own_rate, "weight_decay": weight_decay * key[1]})
        groups[key]["params"].append(parameter)
    return list(groups.values())

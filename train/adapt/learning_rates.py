"""Learning rates by layer: heads are new and learn faster than the rest, blocks near the pixels slower."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from train.adapt.methods import Parts, unwrapped

#: What names begin with in a model that PEFT has wrapped.
_WRAPPED = "base_model.model."


def depth_of_parameters(model: nn.Module, parts: Parts) -> dict[str, int]:
    """Depth of every parameter by name: 0 what stands before the tower's blocks, 1 ... n the blocks (or stages), n + 1
    what follows them: final norm, projector, head. Names are those within PEFT's wrapping.
    """
    model = unwrapped(model)
    tower = model.get_submodule(parts.tower)
    blocks = next(
        (f"{parts.tower}.{name}" for name, module in tower.named_modules() if isinstance(module, nn.ModuleList)), None
    )
    if blocks is None:
        raise ValueError(f"layer_decay: {type(tower).__name__} has no list of blocks: leave layer_decay out")
    count, depths, passed = len(model.get_submodule(blocks)), {}, False
    for name, _ in model.named_parameters():
        if name.startswith(f"{blocks}."):
            passed, depths[name] = True, 1 + int(name.removeprefix(f"{blocks}.").split(".")[0])
        else:
            # Parameters come in the order in which a tower is built: embeddings, blocks, final norm.
            depths[name] = count + 1 if passed or not name.startswith(f"{parts.tower}.") else 0
    return depths


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
    depths = depth_of_parameters(model, parts) if decay != 1 else {}
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

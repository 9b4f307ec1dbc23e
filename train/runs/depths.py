"""How deep each parameter of a tower lies: by that, learning rates fall towards the pixels, and blocks are frozen."""

from __future__ import annotations

from torch import nn


def depth_of_parameters(tower: nn.Module) -> tuple[dict[str, int], int]:
    """Depth of every parameter by name: 0 before the tower's blocks, 1 ... n in them (or in its stages), n + 1 behind.

    Returns:
        the depths, and n; 0 where the tower has no list of blocks, with all depths 1.
    """
    blocks = next((name for name, module in tower.named_modules() if isinstance(module, nn.ModuleList)), None)
    if blocks is None:
        return {name: 1 for name, _ in tower.named_parameters()}, 0
    count, depths, passed = len(tower.get_submodule(blocks)), {}, False
    for name, _ in tower.named_parameters():
        if name.startswith(f"{blocks}."):
            passed, depths[name] = True, 1 + int(name.removeprefix(f"{blocks}.").split(".")[0])
        else:
            # Parameters come in the order in which a tower is built: embeddings, blocks, final norm.
            depths[name] = count + 1 if passed else 0
    return depths, count

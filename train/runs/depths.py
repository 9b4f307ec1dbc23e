"""How deep each parameter of a tower lies: by that, learning rates fall towards the pixels, and blocks are frozen."""

from __future__ import annotations

from torch import nn


def depth_of_parameters(tower: nn.Module) -> tuple[dict[str, int], int]:
    """Depth of every parameter by name: 0 before the tower's blocks, 1 ... n in them (or in its stages), n + 1 behind.

    Returns:
        the depths, and n; 0 where the tower has no list of blocks, with all depths 1.
    """
    lists = {name: module for name, module in tower.named_modules() if isinstance(module, nn.ModuleList)}
    if not lists:
        return {name: 1 for name, _ in tower.named_parameters()}, 0
    first = next(iter(lists))
    count, parent = len(lists[first]), first.rpartition(".")[0]
    # Some towers hold a stage in several lists, as DaViT its convolutions and its blocks.
    stages = [name for name, one in lists.items() if name.rpartition(".")[0] == parent and len(one) == count]
    depths, passed = {}, False
    for name, _ in tower.named_parameters():
        inside = next((stage for stage in stages if name.startswith(f"{stage}.")), None)
        if inside is not None:
            passed, depths[name] = True, 1 + int(name.removeprefix(f"{inside}.").split(".")[0])
        else:
            # Parameters come in the order in which a tower is built: embeddings, blocks, final norm.
            depths[name] = count + 1 if passed else 0
    return depths, count

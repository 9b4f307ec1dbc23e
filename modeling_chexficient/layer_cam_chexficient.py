"""LayerCAM (doi:10.1109/TIP.2021.3089943) of all stages or blocks of an image tower, fused and smoothed.

The last map of a tower tells best what is there and worst where. LayerCAM weighs every feature at its own place by the
positive part of its gradient, so that earlier and finer maps can be read too. Each is scaled to at most 1, as
pytorch-grad-cam does with several layers, and their mean is smoothed.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from .cell_places_chexficient import noted_places
from .spatial_features_chexficient import as_grid, hooked, tower_blocks, with_first_input

#: Standard deviation of the smoothing as a share of the side, chosen on validation films (`eval`).
SMOOTHING = 0.04


def layer_cam(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """LayerCAM [B, h, w] of features [B, h, w, C] and the output's gradients by them, 0 or above."""
    return (features * gradients.relu()).sum(dim=-1).relu()


def layer_cam_maps(
    tower: PreTrainedModel, pixel_values: torch.Tensor, scores: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Heat maps [B, P, H, W] fp32 on the pixels of images, 0 to 1, of each of P outputs.

    The maps are of what enters the first stage or block of the tower, and of what leaves each.

    Args:
        tower, pixel_values, scores: as of `spatial_features_chexficient.gradient_maps`.

    Raises:
        ValueError: the tower has no list of stages or blocks, or the outputs do not depend on them.
    """
    blocks = [_layers(block) for block in tower_blocks(tower)]
    states: list[torch.Tensor] = []

    def enter(features: torch.Tensor) -> torch.Tensor:
        states[:] = [features.detach().requires_grad_()]
        return states[0]

    def leave(_: nn.Module, __: tuple, output) -> None:
        while not isinstance(output, torch.Tensor):
            output = output[0]
        states.append(output)

    handles = [blocks[0][0].register_forward_pre_hook(partial(with_first_input, enter), with_kwargs=True)]
    handles += [layers[-1].register_forward_hook(leave) for layers in blocks]
    with torch.enable_grad(), noted_places(tower, pixel_values) as places, hooked(*handles):
        outputs = scores(pixel_values)
        if not (states and outputs.requires_grad):
            raise ValueError(f"the outputs do not depend on the features of {type(tower).__name__}")
        of_outputs = [_stage_maps(tower, states, output, pixel_values) for output in outputs.float().sum(dim=0)]
    # Maps of one size are laid on the pixels together.
    sizes = list(dict.fromkeys(stage.shape for stage in of_outputs[0]))
    total = torch.zeros(1, device=pixel_values.device)
    for size in sizes:
        summed = [torch.stack([stage for stage in maps if stage.shape == size]).sum(dim=0) for maps in of_outputs]
        total = total + places.lay(torch.stack(summed, dim=1))
    return _smooth(total / len(states))


def _layers(block: nn.Module) -> list[nn.Module]:
    """What is called of a block or stage: the block itself, or the layers of a stage that is a list of them."""
    return list(block) if isinstance(block, nn.ModuleList) else [block]


def _stage_maps(
    tower: PreTrainedModel, states: list[torch.Tensor], output: torch.Tensor, pixel_values: torch.Tensor
) -> list[torch.Tensor]:
    """[B, h, w] fp32, 0 to 1, of every state."""
    # What leaves the last block need not matter: some pool its first token alone.
    gradients = torch.autograd.grad(output, states, retain_graph=True, allow_unused=True, materialize_grads=True)
    maps = []
    for state, gradient in zip(states, gradients, strict=True):
        found = layer_cam(*(as_grid(tower, tensor.detach().float(), pixel_values) for tensor in (state, gradient)))
        maps.append(found / found.amax((1, 2), keepdim=True).clamp(min=torch.finfo(found.dtype).tiny))
    return maps


def _smooth(maps: torch.Tensor) -> torch.Tensor:
    """Maps [B, P, H, W] under a Gaussian of `SMOOTHING` times their shorter side; their border goes on beyond it."""
    deviation = SMOOTHING * min(maps.shape[-2:])
    reach = min(round(4 * deviation), min(maps.shape[-2:]) - 1)
    places = torch.arange(-reach, reach + 1, device=maps.device)
    line = torch.exp(-(places**2) / (2 * deviation**2))
    line = (line / line.sum())[None, None, None]
    flat = F.pad(maps.flatten(0, 1).unsqueeze(1), (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(flat, line), line.mT).reshape(maps.shape)


__all__ = ["layer_cam", "layer_cam_maps"]

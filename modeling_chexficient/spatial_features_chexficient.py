"""The spatial features of any image tower, caught while the model runs: patches embedded alone, and HiResCAM.

Towers are of two sorts. Those with stages (ResNet, ConvNeXt, Swin) end in a map [B, C, h, w] or in merged patches
[B, N, C], which are pooled; in transformers the last block brings what the patches hold to the pooled token.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedModel

from .decoders_chexficient import patch_grid
from .towers_chexficient import stage_widths


def hires_cam(features: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """HiResCAM [B, h, w] of features [B, h, w, C] and the output's gradients by them: positive where they speak for it.

    The ReLU that is often put on top is left out: what speaks against the output stays visible as negative.
    """
    return (features * gradients).sum(dim=-1)


@torch.no_grad()
def patch_embeddings(
    tower: PreTrainedModel, pixel_values: torch.Tensor, embed: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """[B, h, w, D]: what `embed` makes of every patch alone, as it makes [B, D] of whole images.

    Args:
        tower: the image tower that `embed` runs.
        pixel_values: [B, channels, H, W] normalised floats.
        embed: from pixels to embeddings, such as those of `CheXficientModel`.

    Raises:
        ValueError: the tower has no spatial features that can be taken apart.
    """
    shapes = []

    def take_apart(features: torch.Tensor) -> torch.Tensor:
        shapes.append(features.shape)
        if features.ndim == 4:
            return features.movedim(1, 3).flatten(0, 2)[..., None, None]
        return features.flatten(0, 1).unsqueeze(1)

    with _take_apart_in(tower, take_apart):
        try:
            embedded = embed(pixel_values)
        except (RuntimeError, IndexError) as error:
            # Some blocks need the places of all tokens (DINOv3), or merge neighbours.
            raise ValueError(f"{type(tower).__name__} cannot embed a single patch: {error}") from error
    (shape,) = shapes
    cells = math.prod(shape[2:]) if len(shape) == 4 else shape[1]
    if len(embedded) != shape[0] * cells or not embedded.isfinite().all():
        raise ValueError(f"{type(tower).__name__} cannot embed a single patch: it joins them before they are pooled")
    embedded = embedded.unflatten(0, (shape[0], cells))
    height, width = shape[2:] if len(shape) == 4 else _grid(tower, cells, pixel_values)
    return embedded[:, cells - height * width :].unflatten(1, (height, width))


def gradient_maps(
    tower: PreTrainedModel, pixel_values: torch.Tensor, scores: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """HiResCAM [B, P, h, w] fp32 of each of P outputs.

    Args:
        tower: the image tower that `scores` runs, in evaluation mode.
        pixel_values: [B, channels, H, W] normalised floats.
        scores: from pixels to outputs [B, P], those of an image depending on that image alone.

    Raises:
        ValueError: the tower has no spatial features, or the outputs do not depend on them.
    """
    found = []

    def watch(features: torch.Tensor) -> torch.Tensor:
        found.append(features.detach().requires_grad_())
        return found[-1]

    with torch.enable_grad(), _watch_in(tower, watch):
        outputs = scores(pixel_values)
        if not (found and outputs.requires_grad):
            raise ValueError(f"the outputs do not depend on the features of {type(tower).__name__}")
        # Of two that were watched the later is what the outputs depend on.
        features = found[-1]
        sums = outputs.float().sum(dim=0)
        gradients = [torch.autograd.grad(total, features, retain_graph=True)[0] for total in sums]
    maps = [hires_cam(*(as_grid(tower, one, pixel_values) for one in (features.detach(), grad))) for grad in gradients]
    return torch.stack(maps, dim=1).float()


@contextmanager
def hooked(*handles) -> Iterator[None]:
    """Removes the hooks of `handles` at its end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _take_apart_in(tower: PreTrainedModel, change: Callable[[torch.Tensor], torch.Tensor]) -> AbstractContextManager:
    """While it lasts, the tower goes on with `change` of what is pooled: the output of its encoder, a map [B, C, h, w]
    or merged patches [B, N, C], where it has stages; else the input [B, N, C] of its last block.
    """
    if stage_widths(tower.config):
        return hooked(_encoder(tower).register_forward_hook(lambda _, __, output: _with_last_state(output, change)))
    hook = partial(with_first_input, change)
    return hooked(tower_blocks(tower)[-1].register_forward_pre_hook(hook, with_kwargs=True))


def _watch_in(tower: PreTrainedModel, change: Callable[[torch.Tensor], torch.Tensor]) -> AbstractContextManager:
    """While it lasts, the tower goes on with `change` of its last spatial features.

    Those of a transformer are taken behind a layer norm: in front of it, feature times gradient adds up to 0, since
    the norm does not see the length of a feature.
    """
    if stage_widths(tower.config):
        parts = [_encoder(tower), getattr(tower, "layernorm", None)]
    else:
        parts = [next((part for part in tower_blocks(tower)[-1].modules() if "Norm" in type(part).__name__), None)]

    def hook(_: nn.Module, __: tuple, output):
        return _with_last_state(output, change)

    return hooked(*(part.register_forward_hook(hook) for part in parts if part is not None))


def _encoder(tower: PreTrainedModel) -> nn.Module:
    encoder = getattr(tower, "encoder", None)
    if encoder is None:
        raise ValueError(f"{type(tower).__name__} has no encoder whose output is a map: choose another tower")
    return encoder


def _with_last_state(output, change: Callable[[torch.Tensor], torch.Tensor]):
    """The output of a module, its last hidden state changed where it is spatial."""
    if isinstance(output, torch.Tensor):
        return change(output) if output.ndim > 2 else output
    if isinstance(output, tuple):
        return (change(output[0]), *output[1:])
    output["last_hidden_state"] = change(output["last_hidden_state"])
    return output


def with_first_input(
    change: Callable[[torch.Tensor], torch.Tensor], _: nn.Module, given: tuple, named: dict
) -> tuple[tuple, dict]:
    """A pre-hook with keywords, once `change` is bound: the arguments of a block, its hidden states changed."""
    if given:
        return (change(given[0]), *given[1:]), named
    return given, {**named, "hidden_states": change(named["hidden_states"])}


def tower_blocks(tower: PreTrainedModel) -> nn.ModuleList:
    """The stages of a tower that has some, else its blocks. Raises ValueError where there is no list of them.

    A stage may be a list of layers, which is never called itself.
    """
    count = len(stage_widths(tower.config)) or getattr(tower.config, "num_hidden_layers", None)
    for module in tower.modules():
        lists = [part for part in module.children() if isinstance(part, nn.ModuleList) and len(part) == count]
        if lists:
            # DaViT, PVT and PoolFormer have their patch embeddings in a list of the same length before.
            return lists[-1]
    raise ValueError(f"{type(tower).__name__} has no list of blocks: it gives no spatial features")


def _grid(tower: PreTrainedModel, tokens: int, pixel_values: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of the last of so many tokens that are patches."""
    if not stage_widths(tower.config):
        return patch_grid(tower, pixel_values)
    side = math.isqrt(tokens)
    if side * side != tokens or pixel_values.shape[-1] != pixel_values.shape[-2]:
        raise ValueError(
            f"{type(tower).__name__} merges patches: heat maps need square images, not {pixel_values.shape}"
        )
    return side, side


def as_grid(tower: PreTrainedModel, features: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
    """[B, h, w, C] of a map [B, C, h, w], or of the patches among tokens [B, N, C]."""
    if features.ndim == 4:
        if not stage_widths(tower.config):
            raise ValueError(f"{type(tower).__name__} has blocks of an unknown layout: choose another tower")
        return features.movedim(1, 3)
    height, width = _grid(tower, features.shape[1], pixel_values)
    return features[:, features.shape[1] - height * width :].unflatten(1, (height, width))


__all__ = ["as_grid", "gradient_maps", "hires_cam", "hooked", "patch_embeddings", "tower_blocks", "with_first_input"]

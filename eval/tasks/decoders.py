"""Decoders of frozen feature maps into masks, and their training.

A decoder sees what a tower makes of a film, `pyramid`: a list of maps [B, C, h, w] from the shallowest block to the
deepest, all of one size (ViT) or smaller the deeper (convolutional towers). It gives logits
[B, structures, size, size]; structures may overlap, so each has its own sigmoid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_scripts.schema import INSIDE, NOT_JUDGED
from eval.tasks.segmentation_data import FilmFeatures

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2


def _standardised(channels: int) -> nn.BatchNorm2d:
    """Features of frozen towers come in any scale. Without parameters, and a fixed linear map once trained."""
    return nn.BatchNorm2d(channels, affine=False, momentum=None)


class LinearDecoder(nn.Module):
    """A linear classifier of every position of the deepest map, enlarged bilinearly (as in arXiv 2304.07193)."""

    def __init__(self, channels: Sequence[int], structures: int):
        super().__init__()
        self.head = nn.Sequential(_standardised(channels[-1]), nn.Conv2d(channels[-1], structures, 1))

    def forward(self, pyramid: list[Tensor], size: int) -> Tensor:
        return _resize(self.head(pyramid[-1]), size)


class UNetDecoder(nn.Module):
    """From the deepest map upwards: enlarge, add the next shallower map, two convolutions (after arXiv 1505.04597).

    Every step doubles the side, or takes that of the shallower map where it is larger, up to `size`, and halves the
    width. The last layer is linear, so logits are not limited from below.

    Args:
        channels: of the maps of the pyramid.
        structures: number of masks.
        width: channels at the deepest map; at least `_NARROWEST` are left at the shallowest.
    """

    def __init__(self, channels: Sequence[int], structures: int, width: int = 128):
        super().__init__()
        widths = [max(width >> depth, _NARROWEST) for depth in range(len(channels))]
        deep_first = list(reversed(channels))
        self.inputs = nn.ModuleList(
            nn.Sequential(_standardised(given), nn.Conv2d(given, taken, 1))
            for given, taken in zip(deep_first, widths, strict=True)
        )
        self.steps = nn.ModuleList(
            nn.Sequential(*_convolution(before + after, after), *_convolution(after, after))
            for before, after in pairwise(widths)
        )
        self.head = nn.Conv2d(widths[-1], structures, 1)

    def forward(self, pyramid: list[Tensor], size: int) -> Tensor:
        maps = [enter(one) for enter, one in zip(self.inputs, reversed(pyramid), strict=True)]
        x = maps[0]
        for step, skip in zip(self.steps, maps[1:], strict=True):
            side = min(max(2 * x.shape[-1], skip.shape[-1]), size)
            x = step(torch.cat([_resize(x, side), _resize(skip, side)], dim=1))
        return _resize(self.head(x), size)


DECODERS: dict[str, Callable[[Sequence[int], int], nn.Module]] = {"linear": LinearDecoder, "unet": UNetDecoder}
_NARROWEST, _GROUPS = 16, 8


def _convolution(given: int, taken: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(given, taken, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, taken), nn.ReLU()


def _resize(x: Tensor, side: int) -> Tensor:
    return x if x.shape[-1] == side else F.interpolate(x, (side, side), mode="bilinear", align_corners=False)


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy plus 1 - soft Dice, over judged pixels only; scalar.

    `logits` and `masks` are [B, structures, H, W]; masks hold 255 inside, 0 outside, 127 not judged. The soft Dice of a
    structure is of the whole batch, so that films without it count; structures nobody judged stay out. 0 where no
    pixel of the batch is judged.
    """
    judged, truth = (masks != NOT_JUDGED).float(), (masks == INSIDE).float()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    entropy = (entropy * judged).sum() / judged.sum().clamp(min=1)
    found, pixels = logits.sigmoid() * judged, (0, 2, 3)
    dice = (2 * (found * truth).sum(pixels) + 1) / (found.sum(pixels) + truth.sum(pixels) + 1)
    seen = (judged.sum(pixels) > 0).float()
    return entropy + ((1 - dice) * seen).sum() / seen.sum().clamp(min=1)


def train_decoders(
    decoders: dict[str, nn.Module],
    train: FilmFeatures,
    validate: Callable[[nn.Module], float],
    epochs: int,
    batch_size: int,
    seed: int,
) -> dict[str, tuple[int, float]]:
    """Train all decoders on the same batches and leave each with the weights of its best epoch.

    Args:
        decoders: by name; moved to the device of the features.
        train: features and masks of the training films.
        validate: the figure to choose an epoch by, higher is better; NaN counts as worst.
        seed: of the order of the films.

    Returns:
        for every decoder its best epoch, from 1, and the figure there.
    """
    steps = epochs * -(-len(train) // batch_size)
    optimisers, schedules = {}, {}
    for name, decoder in decoders.items():
        decoder.to(train.device)
        optimisers[name] = torch.optim.AdamW(decoder.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedules[name] = torch.optim.lr_scheduler.CosineAnnealingLR(optimisers[name], steps)
    best: dict[str, tuple[int, float]] = {}
    weights = {}
    for epoch in range(epochs):
        order = np.random.default_rng((seed, epoch)).permutation(len(train))
        for start in range(0, len(order), batch_size):
            pyramid, masks = train.batch(order[start : start + batch_size].tolist())
            for name, decoder in decoders.items():
                decoder.train()
                loss = segmentation_loss(decoder(pyramid, masks.shape[-1]), masks)
                optimisers[name].zero_grad()
                loss.backward()
                optimisers[name].step()
                schedules[name].step()
        for name, decoder in decoders.items():
            figure = validate(decoder.eval())
            figure = figure if np.isfinite(figure) else -np.inf
            if name not in best or figure > best[name][1]:
                best[name], weights[name] = (epoch + 1, figure), copy.deepcopy(decoder.state_dict())
    for name, decoder in decoders.items():
        decoder.load_state_dict(weights[name])
    return best

"""Augmentation that is safe for films: what another exposure or another position of the patient would do.

Nothing is mirrored by default: the heart belongs on the left, and a film with the sides exchanged shows another disease
(situs inversus). What happens to a film depends on (seed, epoch, row) alone, not on workers, processes or batches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_scripts.schema import NOT_JUDGED

#: Words of names that a mirrored film would make untrue; the last ones are of organs on the other side.
_SIDED = re.compile(r"\b(left|right|dextro\w*|l(a)?evocardia|situs|heterotaxy)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Augmentation:
    """How far films are changed in training; every change is sampled evenly from -x to x. 0 switches it off."""

    augment: bool = field(
        default=True,
        metadata={"help": "Augmentation: whether there is any. A short run on a small tower learns more without."},
    )
    rotation: float = field(default=5.0, metadata={"help": "Augmentation: degrees."})
    translation: float = field(default=0.04, metadata={"help": "Augmentation: share of the side."})
    scaling: float = field(default=0.08, metadata={"help": "Augmentation: share by which films grow or shrink."})
    crop: float = field(
        default=0.0,
        metadata={
            "help": "Augmentation: share of the area that a random crop, 3:4 to 4:3, leaves out at most; 0.92 is the "
            "RandomResizedCrop of torchvision."
        },
    )
    brightness: float = field(default=0.08, metadata={"help": "Augmentation: added, as a share of white."})
    contrast: float = field(default=0.15, metadata={"help": "Augmentation: share by which contrast grows or shrinks."})
    gamma: float = field(default=0.15, metadata={"help": "Augmentation: logarithm of the exponent of grey values."})
    noise: float = field(default=0.01, metadata={"help": "Augmentation: deviation of grain, as a share of white."})
    horizontal_flip: bool = field(
        default=False,
        metadata={
            "help": "Augmentation: mirror every other film. Refused where a name has a side, as dextrocardia has."
        },
    )

    def __post_init__(self):
        limits = {"rotation": 45, "translation": 0.5, "scaling": 0.5, "brightness": 0.5, "contrast": 0.9, "gamma": 1}
        for name, limit in {**limits, "noise": 0.2, "crop": 0.95}.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} is {getattr(self, name)}, it must lie in [0, {limit}]")

    @property
    def changes_anything(self) -> bool:
        return self.augment and any(astuple(self)[1:])

    def check_names(self, names: Iterable[str]) -> None:
        """Raise ValueError where films would be mirrored under names that have a side: "left lung", "dextrocardia"."""
        sided = [name for name in names if _SIDED.search(name.replace("_", " "))]
        if self.augment and self.horizontal_flip and sided:
            raise ValueError(f"horizontal_flip would exchange the sides of {sided}: leave it out")


def draw_changes(rows: Iterable[int], seed: int, epoch: int) -> Tensor:
    """What is done to films: [B, 12], each -1 to 1: rotation, shift x and y, scale, brightness, contrast, gamma,
    mirror; area, ratio, x and y of a crop.

    `rows` are the films' numbers in the training data.
    """
    return torch.from_numpy(
        np.stack([np.random.default_rng((seed, epoch, int(row))).uniform(-1, 1, 12) for row in rows])
    ).float()


def augment(
    pixels: Tensor, rows: Tensor, settings: Augmentation, seed: int, epoch: int, masks: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Films, and their masks in the same position, as another exposure would show them.

    Args:
        pixels: uint8 [B, 1 or 3, S, S].
        rows: int64 [B], numbers of the films in the training data.
        masks: uint8 [B, L, S, S] of the values of prepared masks; what comes in from outside of the film is not judged.

    Returns:
        both, of the same types and shapes, on their device.
    """
    changes = draw_changes(rows.tolist(), seed, epoch).to(pixels.device)
    # Half precision would move pixels about.
    with torch.autocast(pixels.device.type, enabled=False):
        grid = _sampling_grid(changes, settings, pixels.shape[-1])
        films = F.grid_sample(pixels.float() / 255, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        brightness, contrast, gamma = (changes[:, number].view(-1, 1, 1, 1) for number in (4, 5, 6))
        films = films.clamp(0, 1) ** torch.exp(settings.gamma * gamma)
        # Around the middle of grey, so that contrast and brightness do not mix.
        films = (films - 0.5) * (1 + settings.contrast * contrast) + 0.5 + settings.brightness * brightness
        if settings.noise:
            films = films + settings.noise * grain(rows, seed, epoch, pixels.shape[-1], pixels.device)
        films = (films.clamp(0, 1) * 255).round().to(torch.uint8)
        if masks is not None:
            masks = _move_masks(masks, grid)
    return films, masks


def move_masks(masks: Tensor, rows: Tensor, settings: Augmentation, seed: int, epoch: int) -> Tensor:
    """The masks of `augment`, without the films."""
    changes = draw_changes(rows.tolist(), seed, epoch).to(masks.device)
    with torch.autocast(masks.device.type, enabled=False):
        return _move_masks(masks, _sampling_grid(changes, settings, masks.shape[-1]))


def _sampling_grid(changes: Tensor, settings: Augmentation, side: int) -> Tensor:
    """Where every pixel of the new film lies in the old one, [B, S, S, 2] in -1 to 1."""
    angle = changes[:, 0] * math.radians(settings.rotation)
    factor = 1 + settings.scaling * changes[:, 3]
    mirrored = (changes[:, 7] < 0) & settings.horizontal_flip
    side_sign = torch.where(mirrored, -1.0, 1.0)
    cosine, sine = torch.cos(angle) / factor, torch.sin(angle) / factor
    # A shift of the whole side is 2 in these coordinates.
    shift = 2 * settings.translation * changes[:, 1:3]
    rotation = torch.stack([cosine * side_sign, -sine, sine * side_sign, cosine], dim=1).view(-1, 2, 2)
    size, centre = _crop(changes[:, 8:], settings.crop)
    matrix = torch.cat([rotation * size.unsqueeze(1), shift.unsqueeze(2) + rotation @ centre.unsqueeze(2)], dim=2)
    return F.affine_grid(matrix, [len(matrix), 1, side, side], align_corners=False)


def _crop(changes: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """Width and height of crops as shares of the side [B, 2], and their centres in -1 to 1 [B, 2]."""
    area = 1 - most * (changes[:, 0] + 1) / 2
    ratio = torch.exp(changes[:, 1] * math.log(4 / 3)) if most else torch.ones_like(area)
    size = torch.stack([area * ratio, area / ratio], dim=1).sqrt().clamp(max=1)
    return size, (1 - size) * changes[:, 2:4]


def _move_masks(masks: Tensor, grid: Tensor) -> Tensor:
    # The nearest value, and beyond the edge the value that zero stands for: there are no mixtures of three values.
    shifted = masks.float() - NOT_JUDGED
    moved = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return (moved + NOT_JUDGED).round().to(torch.uint8)


def grain(rows: Tensor, seed: int, epoch: int, side: int, device: torch.device) -> Tensor:
    """Noise of mean 0 and deviation 1, [B, 1, S, S], by hashing (seed, epoch, row, pixel).

    A generator would give other noise on another device, and one on the CPU would take longer than a step on a GPU.
    The sum of four even numbers is near enough to a normal one.
    """
    start = _hash(_hash(rows.to(device) + 0x9E3779B1 * (seed + 1) & 0xFFFFFFFF) + epoch)
    pixel = torch.arange(side * side, device=device)
    bits = _hash(start[:, None] + 0x85EBCA77 * pixel[None] & 0xFFFFFFFF)
    total = sum((bits >> shift & 0xFF).float() for shift in (0, 8, 16, 24)) / 255
    # Four even numbers of 0 to 1 have the mean 2 and the variance 4 / 12.
    return ((total - 2) * math.sqrt(3)).view(-1, 1, side, side)


def _hash(values: Tensor) -> Tensor:
    """32 bits of every integer, mixed (the finaliser of MurmurHash3, with a factor that int64 does not overflow)."""
    values = values & 0xFFFFFFFF
    for _ in range(2):
        values = (values ^ values >> 16) * 0x45D9F3B & 0xFFFFFFFF
    return values ^ values >> 16

"""Global and local crops of grey films, cut, resized and blurred for a whole batch on the device.

Cutting, antialiased resizing, mirroring and blurring are linear and separable: a crop is `rows @ film @ columns.T`,
one matrix for each film and side. All that is random is drawn by seed and batch number for the films of all processes,
of which each takes its own: neither a resumption nor the number of processes changes a crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

#: Blurred with probability 1, 0.1 and 0.5: the first view, the second, and local crops (published).
_BLUR_SHARES = (1.0, 0.1, 0.5)
_BLUR_SIGMAS, _BLUR_REACH = (0.1, 2.0), 4
_LOG_RATIO = math.log(4 / 3)


@dataclass
class CropArguments:
    """How films are cropped. Defaults as published, without mirroring: hearts lie left, and markers are read.

    Of the published colour changes grey films have brightness and contrast; there is no solarisation, which films of
    one exposure do not need.
    """

    local_size: int | None = field(
        default=None,
        metadata={
            "help": "Side of local crops, in pixels; default: 3/7 of image_size, as 98 of 224, in whole patches."
        },
    )
    local_crops: int = field(default=8, metadata={"help": "Local crops a film; 0: global crops alone."})
    global_scale: list[float] = field(
        default_factory=lambda: [0.32, 1.0], metadata={"help": "Share of the film that a global crop shows, from to."}
    )
    local_scale: list[float] = field(
        default_factory=lambda: [0.05, 0.32], metadata={"help": "Share of the film that a local crop shows, from to."}
    )
    jitter: float = field(
        default=0.4, metadata={"help": "Brightness and contrast change by up to this share, in 4 of 5 crops."}
    )
    blur: bool = field(default=True, metadata={"help": "Blur crops, as published."})
    flip_probability: float = field(default=0.0, metadata={"help": "Share of the crops that are mirrored."})

    def __post_init__(self):
        for name in ("global_scale", "local_scale"):
            scale = getattr(self, name)
            if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
                raise ValueError(f"{name} is {scale}, it must be two shares above 0 and up to 1, the smaller one first")
        if self.local_crops < 0:
            raise ValueError(f"local_crops is {self.local_crops}, it must be at least 0")
        if not 0 <= self.flip_probability <= 1:
            raise ValueError(f"flip_probability is {self.flip_probability}, it must lie in [0, 1]")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter is {self.jitter}, it must lie in [0, 1)")


@dataclass(frozen=True)
class Boxes:
    """Of each crop: its first row and column and its size in the film's pixels, and how it is changed; all [n]."""

    top: np.ndarray
    left: np.ndarray
    height: np.ndarray
    width: np.ndarray
    mirrored: np.ndarray
    sigma: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray

    def rows(self, rows: slice) -> Boxes:
        return Boxes(**{name: values[rows] for name, values in vars(self).items()})


def draw_boxes(
    generator: np.random.Generator,
    count: int,
    side: int,
    scale: Sequence[float],
    blur_share: float,
    args: CropArguments,
) -> Boxes:
    """`count` crops of films of `side` pixels: a share of the area by `scale`, 3:4 to 4:3, anywhere within the film."""
    area = generator.uniform(*scale, count) * side * side
    ratio = np.exp(generator.uniform(-_LOG_RATIO, _LOG_RATIO, count))
    # What would stick out is cut off, where the published code draws again.
    width = np.sqrt(area * ratio).round().clip(1, side).astype(np.int64)
    height = np.sqrt(area / ratio).round().clip(1, side).astype(np.int64)
    top = (generator.random(count) * (side - height + 1)).astype(np.int64)
    left = (generator.random(count) * (side - width + 1)).astype(np.int64)
    mirrored = generator.random(count) < args.flip_probability
    blurred = generator.random(count) < (blur_share if args.blur else 0)
    sigma = np.where(blurred, generator.uniform(*_BLUR_SIGMAS, count), 0.0)
    changed = generator.random(count) < 0.8
    brightness, contrast = 1 + changed * generator.uniform(-args.jitter, args.jitter, (2, count))
    return Boxes(top, left, height, width, mirrored, sigma, brightness, contrast)


def resizing(start: np.ndarray, length: np.ndarray, side: int, size: int, device: torch.device) -> Tensor:
    """Matrices [n, size, side] that take `length` pixels from `start` on and resize them to `size`.

    Bilinear with antialiasing: what torch's `interpolate(antialias=True)` makes of the part that was cut out.
    """
    first = torch.from_numpy(start).to(device).view(-1, 1, 1)
    count = torch.from_numpy(length).to(device).view(-1, 1, 1)
    factor = count.float() / size
    centres = (torch.arange(size, device=device).view(1, -1, 1) + 0.5) * factor
    pixels = torch.arange(side, device=device).view(1, 1, -1) - first
    # In place: on a CPU, memory for so many matrices is dear.
    distances = (pixels + 0.5 - centres).abs_().div_(factor.clamp(min=1))
    weights = distances.neg_().add_(1).clamp_(min=0).mul_((pixels >= 0) & (pixels < count))
    return weights.div_(weights.sum(-1, keepdim=True))


def blurring(sigma: np.ndarray, size: int, device: torch.device) -> Tensor:
    """Matrices [n, size, size] of a Gaussian blur by `sigma` pixels above 0, up to 4 pixels away."""
    places, reach = torch.arange(size, device=device), torch.arange(_BLUR_REACH + 2, device=device)
    distance = (places.view(-1, 1) - places).abs_().clamp_(max=_BLUR_REACH + 1)
    width = torch.from_numpy(sigma).float().to(device).view(-1, 1)
    # By distance, so that few exponentials are taken; what is too far away has none.
    by_distance = torch.exp(-((reach / width) ** 2) / 2) * (reach <= _BLUR_REACH)
    weights = by_distance[:, distance.flatten()].unflatten(1, (size, size))
    return weights.div_(weights.sum(-1, keepdim=True))


def cut(films: Tensor, boxes: Boxes, size: int) -> Tensor:
    """Crops [n, size, size] fp32 on the scale [0, 1].

    Args:
        films: [n, S, S] fp32 on the scale [0, 1].
    """
    side, device = films.shape[-1], films.device
    down = resizing(boxes.top, boxes.height, side, size, device)
    across = resizing(boxes.left, boxes.width, side, size, device)
    blurred = np.flatnonzero(boxes.sigma)
    if len(blurred):
        blur, rows = blurring(boxes.sigma[blurred], size, device), torch.from_numpy(blurred).to(device)
        down[rows], across[rows] = blur @ down[rows], blur @ across[rows]
    if boxes.mirrored.any():
        mirrored = torch.from_numpy(boxes.mirrored).to(device).view(-1, 1, 1)
        across = torch.where(mirrored, across.flip(1), across)
    crops = down @ films @ across.mT
    brightness, contrast = (
        torch.from_numpy(values).float().to(device).view(-1, 1, 1) for values in (boxes.brightness, boxes.contrast)
    )
    crops = crops.mul_(brightness).clamp_(0, 1)
    mean = crops.mean((1, 2), keepdim=True)
    return crops.sub_(mean).mul_(contrast).add_(mean).clamp_(0, 1)


@dataclass(frozen=True)
class Crops:
    """Makes the crops of batches.

    Args:
        image_size, local_size: sides of global and local crops, in pixels.
        mean, std: of the tower's pixels, three values each.
    """

    args: CropArguments
    image_size: int
    local_size: int
    mean: list[float]
    std: list[float]

    @torch.no_grad()
    def __call__(
        self, films: Tensor, generator: np.random.Generator, number: int = 0, processes: int = 1
    ) -> tuple[Tensor, Tensor | None]:
        """Global crops [2 B, 3, S, S] and local ones [crops B, 3, s, s] (None where there are none), normalised fp32.

        Args:
            films: uint8 [B, 1, F, F] of this process, which is `number` of `processes` with as many films.
            generator: of the batch; all processes bring it in the same state.
        """
        views = [(self.args.global_scale, self.image_size, share) for share in _BLUR_SHARES[:2]]
        views += [(self.args.local_scale, self.local_size, _BLUR_SHARES[2])] * self.args.local_crops
        crops = self._views(films, generator, number, processes, views)
        local_crops = self._normalised(crops[2:]) if len(crops) > 2 else None
        return self._normalised(crops[:2]), local_crops

    @torch.no_grad()
    def one(self, films: Tensor, generator: np.random.Generator, number: int = 0, processes: int = 1) -> Tensor:
        """One global crop of each film, [B, 3, S, S], normalised fp32, never blurred; arguments as for the others."""
        view = (self.args.global_scale, self.image_size, 0.0)
        return self._normalised(self._views(films, generator, number, processes, [view]))

    def _views(self, films, generator, number, processes, views: list[tuple]) -> list[Tensor]:
        """Of each view (scale, size, share that is blurred) a crop [B, size, size] of all films."""
        grey = films[:, 0].float().div_(255)
        own = slice(number * len(grey), (number + 1) * len(grey))
        crops = []
        for scale, size, share in views:
            boxes = draw_boxes(generator, processes * len(grey), grey.shape[-1], scale, share, self.args)
            crops.append(cut(grey, boxes.rows(own), size))
        return crops

    def _normalised(self, crops: list[Tensor]) -> Tensor:
        """All crops of views of one size, in the three channels of a tower."""
        grey = torch.cat(crops).unsqueeze(1)
        mean, std = (torch.tensor(values, device=grey.device).view(3, 1, 1) for values in (self.mean, self.std))
        return (grey - mean).div_(std)

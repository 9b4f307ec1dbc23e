"""Which patches are hidden from the student: blocks, as BEiT and iBOT hide them (arXiv 2106.08254)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

#: Smallest block, in patches, flattest block (height to width), and how often a block is tried.
_LEAST, _FLATTEST, _TRIES = 4, 0.3, 10


def block_mask(generator: np.random.Generator, rows: int, columns: int, count: int) -> np.ndarray:
    """A mask [rows, columns] bool of blocks with at most `count` patches."""
    mask = np.zeros((rows, columns), dtype=bool)
    # No block may hide more than half of the image.
    largest = 0.5 * rows * columns
    while (left := min(largest, count - int(mask.sum()))) > 0 and _add_block(generator, mask, left):
        pass
    return mask


def _add_block(generator: np.random.Generator, mask: np.ndarray, most: float) -> bool:
    """Hide a block with up to `most` patches that are not hidden yet; whether one was found."""
    rows, columns = mask.shape
    limit = math.log(1 / _FLATTEST)
    for _ in range(_TRIES):
        area = generator.uniform(min(_LEAST, most), most)
        ratio = math.exp(generator.uniform(-limit, limit))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if not (0 < height < rows and 0 < width < columns):
            continue
        top, left = generator.integers(0, rows - height + 1), generator.integers(0, columns - width + 1)
        block = mask[top : top + height, left : left + width]
        if 0 < block.size - block.sum() <= most:
            block[:] = True
            return True
    return False


def draw_masks(generator: np.random.Generator, images: int, side: int, share: float, ratios: Sequence[float]) -> Tensor:
    """Masks [images, side^2] bool. A `share` of the images is masked, by ratios that are spread evenly over `ratios`.

    At least one image is, as iBOT needs a patch to predict.
    """
    masked = max(1, int(images * share))
    edges = np.linspace(*ratios, masked + 1)
    masks = np.zeros((images, side, side), dtype=bool)
    for number in range(masked):
        ratio = generator.uniform(edges[number], edges[number + 1])
        masks[number] = block_mask(generator, side, side, max(1, int(side * side * ratio)))
    if not masks.any():
        masks[0, generator.integers(side), generator.integers(side)] = True
    return torch.from_numpy(masks[generator.permutation(images)].reshape(images, -1))


def own_images(masks: Tensor, number: int, processes: int) -> Tensor:
    """Of masks [2 B, ...] for the two views of a batch of all processes, those of the films of one."""
    films = len(masks) // 2 // processes
    first = torch.arange(number * films, (number + 1) * films)
    return masks[torch.cat([first, first + len(masks) // 2])]

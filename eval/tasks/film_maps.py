"""Heat maps of films by any model, on the pixels of each film's central square, which every processor keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from data_scripts.prepared.masks import central_square
from eval.models.encoders import EvaluationModel
from eval.tasks.segmentation_data import show_whole
from modeling_chexficient import to_eight_bit


def square_maps(
    model: EvaluationModel,
    films: Sequence[Image.Image],
    phrases: Sequence[str],
    share: float,
    method: str | None = None,
) -> Tensor:
    """Heat maps [films, phrases, S, S] fp32, on the CPU, of the central square of each film, at the model's size.

    Args:
        share: of a square film that the model's processor keeps (`eval.tasks.segmentation_data.seen_share`).
        method: see `EvaluationModel.heat_maps`.
    """
    squares = [show_whole(central_square(to_eight_bit(film)), share) for film in films]
    return model.heat_maps(model.pixels(squares), phrases, method).cpu()


def enlarge(maps: Tensor | np.ndarray, side: int) -> np.ndarray:
    """Maps [..., h, w] as fp32 [..., side, side], bilinear."""
    maps = torch.as_tensor(maps)
    flat = maps.float().reshape(-1, 1, *maps.shape[-2:])
    enlarged = F.interpolate(flat, (side, side), mode="bilinear", align_corners=False)
    return enlarged.reshape(*maps.shape[:-2], side, side).numpy()


def on_film(maps: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Maps [P, h, w] of a film's central square as fp32 [P, H, W] of its size (width, height); NaN outside."""
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    whole = np.full((len(maps), height, width), np.nan, np.float32)
    whole[:, top : top + side, left : left + side] = enlarge(maps, side)
    return whole

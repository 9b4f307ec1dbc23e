"""Histograms of oriented gradients: a baseline without weights, which any pretrained tower has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.models.encoders import EvaluationModel
from modeling_chexficient import CheXficientImageProcessor

#: The name that stands for it where a model is asked for.
HOG = "hog"
_SIDE, _CELL = 128, 16


class HogEncoder(EvaluationModel):
    """HOG features (Dalal and Triggs, CVPR 2005): 9 orientations, cells of 16 pixels in blocks of 2 x 2, L2-Hys.

    Films are grey, of 128 x 128 pixels: [B, 1764]. It sees no text and gives no maps.
    """

    def __init__(self):
        # What loads a model asks for the device of `model` and moves it; this one has no weights.
        self.model = torch.nn.Identity()
        self.image_processor = CheXficientImageProcessor(_SIDE, image_mean=[0.0] * 3, image_std=[1.0] * 3)
        self.name, self.revision, self.weights_sha256 = HOG, "1", None
        self.pretraining_sources = []
        self.image_size = _SIDE

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        return self.image_processor(list(images), return_tensors="pt")["pixel_values"]

    def embed_images(self, pixels: Tensor) -> Tensor:
        """[B, 1764] fp32 of unit length."""
        # Only this baseline needs it, and it is slow to import.
        from skimage.feature import hog

        blocks = {"orientations": 9, "pixels_per_cell": (_CELL, _CELL), "cells_per_block": (2, 2)}
        features = [hog(film, block_norm="L2-Hys", **blocks) for film in pixels.mean(dim=1).numpy()]
        return torch.nn.functional.normalize(torch.from_numpy(np.stack(features)).float(), dim=-1)

    def tower_features(self, pixels: Tensor) -> Tensor:
        """The same as `embed_images`."""
        return self.embed_images(pixels)

    def pyramid(self, pixels: Tensor) -> list[Tensor]:
        raise ValueError(f"{HOG} gives no maps: it is a baseline for findings")

"""Masks of a decoder that was trained before, in the form in which those that are trained here are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from eval.benchmarks import Benchmark
from eval.models.encoders import EvaluationModel
from eval.tasks.segmentation_data import FilmFeatures, show_whole


class PredictedMasks(FilmFeatures):
    """Films whose only "map" is the logits [B, L, S, S] that an adapted model gives them."""

    @torch.no_grad()
    def maps(self, squares: Sequence[Image.Image]) -> list[Tensor]:
        pixels = self.model.pixels([show_whole(square, self.share) for square in squares])
        return [self.model.predict_masks(pixels)]


def trained_decoder(benchmark: Benchmark, model: EvaluationModel) -> Callable[[list[Tensor], int], Tensor]:
    """From the maps of `PredictedMasks` and a side to logits [B, structures, side, side], above 0 inside.

    Structures are those of the benchmark in its order, matched by name.

    Raises:
        ValueError: the model does not outline one of them.
    """
    missing = [name for name in benchmark.structures if name not in model.structure_names]
    if missing:
        raise ValueError(
            f"the head of {model.name} does not outline {missing}, which {benchmark.name} evaluates: its structures "
            f"are {model.structure_names}"
        )
    channels = [model.structure_names.index(name) for name in benchmark.structures]
    return lambda maps, side: model.decide(maps[0], side)[:, channels]

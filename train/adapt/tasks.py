"""What every task brings to a run; findings, structures and reports each fill it in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from eval.benchmarks import Benchmark
from modeling_chexficient import CheXficientImageProcessor, normalise_pixels
from train.adapt.augmentation import Augmentation, augment
from train.adapt.films import Splits
from train.adapt.methods import Parts


@dataclass
class Task:
    """A model, the films it learns from, and how both come together.

    Args:
        name: of the task, as the Hub calls it.
        model: with its head; PEFT's wrapping is put around it later.
        parts: the names of its modules.
        processor: saved beside the adapter; its image processor prepares the films.
        head: the fields of the configuration that make the head.
        train_dataset, validation_dataset: their items are what `collate` takes.
        splits: where they come from.
        augmentation, seed: of the training films.
        sampler: the order of the training films; None: shuffled.
        metric: name of the figure that chooses the best weights, the first of `figures`.
        notes: what a reader of the results must know.
        base_made_here: the base has no folder of its own yet and is saved with the run.
        base_precision: what `model` was loaded for, of `PRECISIONS`; with method full always fp32.
        facts: more to be said in `run.json`.

    Attributes:
        targets: the field of a batch that holds what is to be learnt.
        not_judged: its value where nobody judged.
    """

    targets: ClassVar[str] = "labels"
    not_judged: ClassVar[float] = math.nan

    name: str
    model: PreTrainedModel
    parts: Parts
    processor: object
    head: dict
    train_dataset: Dataset
    validation_dataset: Dataset
    splits: Splits
    augmentation: Augmentation
    seed: int
    metric: str
    sampler: Sampler | None = None
    notes: list[str] = field(default_factory=list)
    base_made_here: bool = False
    base_precision: str = "fp32"
    facts: dict = field(default_factory=dict)

    @property
    def image_processor(self) -> CheXficientImageProcessor:
        return getattr(self.processor, "image_processor", self.processor)

    def collate(self, films: list[dict]) -> dict[str, Tensor]:
        """A batch on the CPU: `rows` int64 [B], `pixel_values` uint8 [B, 1 or 3, S, S], and what the task is about."""
        raise NotImplementedError

    def inputs(self, batch: dict[str, Tensor], epoch: int | None) -> dict[str, Tensor]:
        """Arguments of the model from a batch on its device; None as epoch: films as they are."""
        raise NotImplementedError

    def judged(self, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """How many values the loss of a batch is a mean over: int64 [terms of the loss], on its device."""
        return (~batch[self.targets].isnan()).sum().reshape(1)

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], judged: Tensor) -> Tensor:
        """A batch's share of the loss of an optimiser step: the shares of all batches sum up to the step's mean.

        Args:
            model: as trained, perhaps within wrappings.
            inputs: see `inputs`.
            judged: the sum of `judged` of all batches of the step.
        """
        own = (~inputs["labels"].isnan()).sum()
        return model(**inputs).loss * own / judged.clamp(min=1).squeeze(0)

    def forget(self, batch: dict[str, Tensor], films: Tensor) -> None:
        """Make `films` (bool [B]) of a batch ones that nobody judged, in place."""
        batch[self.targets][films.to(batch[self.targets].device)] = self.not_judged

    def measure(self, output: ModelOutput, batch: dict[str, Tensor]) -> Tensor:
        """What `figures` need to know of each film, [B, ...]."""
        raise NotImplementedError

    def figures(self, measured: np.ndarray) -> dict[str, float]:
        """Figures of all validation films, of which higher is better; the first chooses the best weights."""
        raise NotImplementedError

    def benchmark(self, name: str, dataset: str, test: datasets.Dataset) -> Benchmark:
        """The task as a benchmark on the test split of a prepared folder.

        Args:
            name: the benchmark's begins with it.
            dataset: the loader that read the folder.
            test: the split.
        """
        raise NotImplementedError

    def films(
        self, batch: dict[str, Tensor], epoch: int | None, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Normalised films [B, 3, S, S] fp32, augmented where an epoch is given, and their masks, which move along."""
        pixels = batch["pixel_values"]
        if epoch is not None and self.augmentation.changes_anything:
            pixels, masks = augment(pixels, batch["rows"], self.augmentation, self.seed, epoch, masks)
        processor = self.image_processor
        return normalise_pixels(pixels, processor.image_mean, processor.image_std), masks


def rows_of(films: list[dict]) -> Tensor:
    return torch.tensor([film["row"] for film in films])

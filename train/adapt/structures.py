"""Structures: one mask each, which may overlap, learnt where somebody outlined them or said that they are absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import set_seed

from data_scripts.prepared.films import FilmDataset, film_pixels
from data_scripts.prepared.foreground import ForegroundSampler
from data_scripts.prepared.masks import (
    central_square,
    judged_rows,
    mask_names,
    read_masks,
    scaled_square,
    shown_structures,
)
from data_scripts.prepared.mixture import Mixture
from data_scripts.schema import INSIDE, NOT_JUDGED
from eval.benchmarks import Benchmark
from eval.tasks.dice import dice, weighted_means, with_structure
from modeling_chexficient.modeling_chexficient_heads import CheXficientForSemanticSegmentation
from modeling_chexficient.modeling_chexficient_losses import entropy_and_dice, judged_counts
from modeling_chexficient.tasks_chexficient import TASKS
from train.adapt.arguments import TaskArguments
from train.adapt.augmentation import Augmentation, move_masks
from train.adapt.base import (
    check_names,
    form_of_head,
    load_config,
    load_head,
    load_image_processor,
    names_of_head,
    unlearnable,
)
from train.adapt.films import choose_films, load_splits
from train.adapt.methods import Parts
from train.adapt.tasks import Task, rows_of

_COLUMNS = ("image", "masks", "labels", "patient_id")
#: Value of labels that are not judged (`CheXficientConfig.semantic_loss_ignore_index`).
_IGNORED = 255


@dataclass
class StructuresTask(Task):
    """Segmentation of overlapping structures; see `Task`.

    Films and masks are the central square of each film, as `eval` evaluates them. Where several batches make a step,
    cross entropy is a mean over all their judged pixels. Each soft Dice is of one batch of one process, as are the
    statistics of a decoder's batch normalisations: such a step is near to one of a single batch, not equal to it.

    Args:
        structures: mask names by structure, in the order of the head.
        no_mask_is_empty: as of the benchmark.
        entropy_weight: of cross entropy beside soft Dice.
    """

    targets: ClassVar[str] = "masks"
    not_judged: ClassVar[float] = NOT_JUDGED

    structures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    no_mask_is_empty: bool = False
    entropy_weight: float = 1.0

    def collate(self, films: list[dict]) -> dict[str, Tensor]:
        size = self.image_processor.size["shortest_edge"]
        masks = [read_masks(film, film["row"], self.structures, self.no_mask_is_empty) for film in films]
        scaled = [np.stack([scaled_square(mask, size) for mask in of_film]) for of_film in masks]
        return {
            "rows": rows_of(films),
            "pixel_values": film_pixels([central_square(film["image"]) for film in films], size),
            "masks": torch.from_numpy(np.stack(scaled)),
        }

    def inputs(self, batch: dict[str, Tensor], epoch: int | None) -> dict[str, Tensor]:
        pixels, masks = self.films(batch, epoch, batch["masks"])
        labels = (masks == INSIDE).to(torch.uint8)
        return {"pixel_values": pixels, "labels": labels.masked_fill(masks == NOT_JUDGED, _IGNORED)}

    def judged(self, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """Pixels, and structures with any, [2]: those that augmentation leaves on the film."""
        masks = batch["masks"]
        if self.augmentation.changes_anything:
            masks = move_masks(masks, batch["rows"], self.augmentation, self.seed, epoch)
        return judged_counts(masks != NOT_JUDGED)

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], judged: Tensor) -> Tensor:
        """The model's own loss (with another weight of cross entropy), divided by what is in the whole step."""
        labels = inputs["labels"]
        logits = model(pixel_values=inputs["pixel_values"]).logits
        return entropy_and_dice(logits, labels == 1, labels != _IGNORED, judged, self.entropy_weight)

    def measure(self, output, batch: dict[str, Tensor]) -> Tensor:
        """Pixels found and in the reference, found, in the reference: [B, L, 3]; NaN where no pixel is judged."""
        masks = batch["masks"]
        judged, inside = masks != NOT_JUDGED, masks == INSIDE
        found = (output.logits > 0) & judged
        counts = torch.stack([mask.sum((-2, -1)) for mask in (found & inside, found, inside)], dim=-1).float()
        return counts.masked_fill(~judged.any(-1).any(-1)[..., None], float("nan"))

    def figures(self, measured: np.ndarray) -> dict[str, float]:
        """Mean Dice over structures of the films that show them, at the size that the model sees."""
        by_structure = weighted_means(with_structure(dice(measured), measured), np.ones((1, len(measured))))[0]
        return {
            "dice": float(np.nanmean(by_structure)),
            **{f"dice_{name}": float(value) for name, value in zip(self.structures, by_structure, strict=True)},
        }

    def benchmark(self, name: str, dataset: str, test: Dataset) -> Benchmark:
        return Benchmark(
            f"{name}_structures",
            1,
            TASKS["segmentation"].runner,
            dataset,
            "mean Dice",
            structures=self.structures,
            no_mask_is_empty=self.no_mask_is_empty,
        )


class OutlinedFilms(FilmDataset):
    """Films with their masks."""

    def __init__(self, dataset: Dataset, rows: np.ndarray):
        super().__init__(dataset, rows, ("image", "masks", "labels"))


def build_structures(
    arguments: TaskArguments, mixture: Mixture, augmentation: Augmentation, seed: int, precision: str = "fp32"
) -> StructuresTask:
    """The task of a run, whose base is loaded for `precision`.

    Raises:
        ValueError: no such base, structures that its head lacks, a head of another form (`form_of_head`), or
            (DataError) masks that no training film has, or no film that shows a structure where the best weights are
            chosen.
    """
    config = load_config(arguments.model, arguments.revision)
    of_head = names_of_head(config, CheXficientForSemanticSegmentation)
    train, validation = load_splits(mixture, _COLUMNS)
    there = {id(split): mask_names(split) for split in (train, validation) if split is not None}
    structures = parse_structures(arguments.structures or of_head or sorted(set().union(*there[id(train)])))
    check_names("structures", list(structures) if arguments.structures else [], of_head, arguments.model)
    augmentation.check_names([*structures, *(name for names in structures.values() for name in names)])
    check_outlined(structures, there[id(train)])

    def usable(split: Dataset) -> np.ndarray:
        return np.asarray(judged_rows(split, structures, arguments.no_mask_is_empty), dtype=np.int64)

    def can_choose(split: Dataset, rows: np.ndarray) -> bool:
        wanted = {name for names in structures.values() for name in names}
        return any(there[id(split)][row] & wanted for row in rows)

    splits = choose_films(train, validation, usable, can_choose, arguments.label_share, seed)
    notes = [*splits.notes, *_notes(structures, [there[id(train)][row] for row in splits.train_rows])]
    if arguments.entropy_weight != 1:
        notes.append(f"Cross entropy counted {arguments.entropy_weight:g} times beside soft Dice.")
    sampler = None
    if arguments.oversample_foreground:
        shows = shown_structures(train, splits.train_rows, structures)
        sampler = ForegroundSampler(shows, arguments.oversample_foreground, seed)
        notes.append(_told(sampler, shows, list(structures)))
    set_seed(seed)
    head = {
        "id2label": dict(enumerate(structures)),
        "label2id": {name: number for number, name in enumerate(structures)},
        "problem_type": "multi_label_classification",
        "mask_decoder": form_of_head(config, of_head, arguments, "decoder"),
        "semantic_loss_ignore_index": _IGNORED,
    }
    return StructuresTask(
        name=TASKS["segmentation"].hub_name,
        model=load_head(
            CheXficientForSemanticSegmentation, arguments.model, arguments.revision, config, precision, **head
        ),
        parts=Parts("vision_model", ("decode_head",), ("vision_model",)),
        processor=load_image_processor(arguments.model, arguments.revision),
        head=head,
        train_dataset=OutlinedFilms(train, splits.train_rows),
        validation_dataset=OutlinedFilms(splits.validation, splits.validation_rows),
        splits=splits,
        augmentation=augmentation,
        seed=seed,
        metric="dice",
        sampler=sampler,
        notes=notes,
        structures=structures,
        base_precision=precision,
        no_mask_is_empty=arguments.no_mask_is_empty,
        entropy_weight=arguments.entropy_weight,
    )


def parse_structures(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Mask names by structure, from `NAME` or `NAME=MASK,MASK`.

    Raises:
        ValueError: a name or mask is empty, or a name is given twice.
    """
    structures: dict[str, tuple[str, ...]] = {}
    for argument in given:
        name, sign, masks = argument.partition("=")
        names = tuple(part.strip() for part in masks.split(",")) if sign else (name,)
        if not name.strip() or not all(names):
            raise ValueError(f"structures: {argument!r} is neither NAME nor NAME=MASK,MASK")
        if name in structures:
            raise ValueError(f"structures: {name!r} is named twice")
        structures[name] = names
    return structures


def check_outlined(structures: Mapping[str, tuple[str, ...]], there: Sequence[set[str]]) -> None:
    """Raise DataError where a structure is outlined in no training film, or names a mask that none has."""
    known = sorted(set().union(*there))
    missing = [mask for names in structures.values() for mask in names if mask not in known]
    if missing or not structures:
        raise unlearnable("masks {} are in no training film", missing, known)


def _notes(structures: Mapping[str, tuple[str, ...]], there: Sequence[set[str]]) -> list[str]:
    shown = set().union(*there)
    hidden = [name for name, masks in structures.items() if not shown.intersection(masks)]
    return [f"No sampled training film shows these structures, so they are not learnt: {hidden}."] if hidden else []


def _told(sampler: ForegroundSampler, shows: np.ndarray, structures: Sequence[str]) -> str:
    """What the sampler does, for a reader of the results. Raises ValueError where it does nothing."""
    rare = [f"{structures[number]} ({shows[:, number].mean():.1%} of the films)" for number in sampler.rare]
    if not rare:
        raise ValueError(
            f"oversample_foreground {sampler.share}: no structure is rarer than that among the training "
            "films: leave it out"
        )
    return f"At {sampler.share:.0%} of the places in a batch a film is drawn that shows one of: {', '.join(rare)}."

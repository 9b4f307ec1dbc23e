"""Findings: one logit a label, learnt from the films' labels; a finding without a label teaches nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import set_seed

from data_scripts.prepared.films import FilmDataset, film_pixels
from data_scripts.prepared.labels import find_label, label_matrix, merge_spellings
from data_scripts.prepared.mixture import Mixture
from eval.benchmarks import Benchmark
from eval.statistics.metrics import label_aurocs
from modeling_chexficient.modeling_chexficient_heads import CheXficientForImageClassification
from modeling_chexficient.tasks_chexficient import TASKS
from train.adapt.arguments import TaskArguments
from train.adapt.augmentation import Augmentation
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

_COLUMNS = ("image", "labels", "patient_id")
#: Beta of the effective number of films, (1 - beta^n) / (1 - beta): the value for data of this size in the source.
_BETA = 0.9999
#: With fewer films of the rarer answer, AUROC differs between evaluations mostly by chance (with ten its standard error
#: is about 0.1).
_FEW_TO_CHOOSE = 10


class LabelledFilms(FilmDataset):
    """Films with `labels` fp32 [L]: 1 present, 0 absent, NaN uncertain or not judged."""

    def __init__(self, dataset: Dataset, rows: np.ndarray, targets: np.ndarray):
        super().__init__(dataset, rows, ("image",))
        self.targets = targets[rows].astype(np.float32)

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(super().fingerprint.encode() + self.targets.tobytes()).hexdigest()[:16]

    def __getitem__(self, position: int) -> dict:
        return super().__getitem__(position) | {"labels": self.targets[position]}


@dataclass
class FindingsTask(Task):
    """Multi-label classification; see `Task`.

    Args:
        labels: names, in the order of the head.
        pos_weight: [L] weight of present findings in the loss, None: 1.
        unlisted_is_absent: as of the benchmark.
        new_head: whether the head knows nothing yet.
    """

    labels: tuple[str, ...] = ()
    pos_weight: Tensor | None = None
    unlisted_is_absent: bool = False
    new_head: bool = True

    def collate(self, films: list[dict]) -> dict[str, Tensor]:
        size = self.image_processor.size["shortest_edge"]
        return {
            "rows": rows_of(films),
            "pixel_values": film_pixels([film["image"] for film in films], size),
            "labels": torch.from_numpy(np.stack([film["labels"] for film in films])),
        }

    def inputs(self, batch: dict[str, Tensor], epoch: int | None) -> dict[str, Tensor]:
        pixels, _ = self.films(batch, epoch)
        weight = {} if self.pos_weight is None else {"pos_weight": self.pos_weight.to(pixels.device)}
        return {"pixel_values": pixels, "labels": batch["labels"], **weight}

    def measure(self, output, batch: dict[str, Tensor]) -> Tensor:
        """Logits and targets, [B, 2, L]."""
        return torch.stack([output.logits.float(), batch["labels"].float()], dim=1)

    def figures(self, measured: np.ndarray) -> dict[str, float]:
        """Mean AUROC over the labels that are both present and absent."""
        aurocs = label_aurocs(measured[:, 0], measured[:, 1], np.ones((1, len(measured))))[0]
        return {"auroc": float(np.nanmean(aurocs))}

    def benchmark(self, name: str, dataset: str, test: Dataset) -> Benchmark:
        known, _ = label_matrix(test)
        evaluated = tuple(label for label in self.labels if find_label(label, known) is not None)
        # A rare finding that no test film lists must not cost the figures of all others.
        if 0 < len(evaluated) < len(self.labels):
            unlisted = [label for label in self.labels if label not in evaluated]
            self.notes.append(
                f"No film of the test split tells of these labels, so there is no test of them: {unlisted}."
            )
        return Benchmark(
            f"{name}_findings",
            1,
            TASKS["classification"].runner,
            dataset,
            labels=evaluated or self.labels,
            unlisted_is_absent=self.unlisted_is_absent,
        )


def build_findings(
    arguments: TaskArguments, mixture: Mixture, augmentation: Augmentation, seed: int, precision: str = "fp32"
) -> FindingsTask:
    """The task of a run, whose base is loaded for `precision`.

    Raises:
        ValueError: no such base, labels that its head lacks, a head of another form (`form_of_head`), or (DataError)
            labels that the data lack, data without labels, or no label that is both present and absent where the best
            weights are chosen.
    """
    config = load_config(arguments.model, arguments.revision)
    of_head = names_of_head(config, CheXficientForImageClassification)
    check_names("labels", arguments.labels, of_head, arguments.model)
    train, validation = load_splits(mixture, _COLUMNS)
    matrices = {
        id(split): label_matrix(split, arguments.unlisted_is_absent)
        for split in (train, validation)
        if split is not None
    }
    known = [name for names, _ in matrices.values() for name in names]
    labels = tuple(arguments.labels or of_head or merge_spellings(known)[0])
    augmentation.check_names(labels)
    targets = {split: pick_labels(*matrix, labels) for split, matrix in matrices.items()}
    check_judged(labels, targets[id(train)], matrices[id(train)][0])

    def usable(split: Dataset) -> np.ndarray:
        return np.flatnonzero(np.isfinite(targets[id(split)]).any(axis=1))

    def can_choose(split: Dataset, rows: np.ndarray) -> bool:
        return any(both_classes(column) for column in targets[id(split)][rows].T)

    splits = choose_films(train, validation, usable, can_choose, arguments.label_share, seed)
    learnt, choosing = targets[id(train)], targets[id(splits.validation)]
    set_seed(seed)
    head = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: number for number, name in enumerate(labels)},
        "problem_type": "multi_label_classification",
        "image_pooling": form_of_head(config, of_head, arguments, "image_pooling"),
    }
    return FindingsTask(
        name=TASKS["classification"].hub_name,
        model=load_head(
            CheXficientForImageClassification, arguments.model, arguments.revision, config, precision, **head
        ),
        parts=Parts("vision_model", ("classifier",), ("vision_model",)),
        processor=load_image_processor(arguments.model, arguments.revision),
        head=head,
        train_dataset=LabelledFilms(train, splits.train_rows, learnt),
        validation_dataset=LabelledFilms(splits.validation, splits.validation_rows, choosing),
        splits=splits,
        augmentation=augmentation,
        seed=seed,
        metric="auroc",
        notes=[
            *splits.notes,
            *_notes(labels, learnt[splits.train_rows]),
            *few_to_choose_by(choosing[splits.validation_rows]),
        ],
        labels=labels,
        pos_weight=balance(learnt[splits.train_rows], arguments.class_balance, arguments.max_pos_weight),
        unlisted_is_absent=arguments.unlisted_is_absent,
        base_precision=precision,
        new_head=not of_head,
    )


def pick_labels(known: Sequence[str], values: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Targets [films, L] of `labels` from `label_matrix`; one that a split does not know is judged nowhere in it."""
    places = [find_label(name, known) for name in labels]
    columns = [np.full(len(values), np.nan) if place is None else values[:, place] for place in places]
    return np.stack(columns, axis=1) if columns else np.empty((len(values), 0))


def check_judged(labels: Sequence[str], targets: np.ndarray, known: Sequence[str]) -> None:
    """Raise DataError where the training films have no labels, or never judge one that is to be learnt."""
    unjudged = [name for name, column in zip(labels, targets.T, strict=True) if not np.isfinite(column).any()]
    if unjudged or not labels:
        raise unlearnable("labels {} are judged in no training film", unjudged, known)


def both_classes(column: np.ndarray) -> bool:
    """Whether a label is present in one film and absent in another."""
    return bool((column == 1).any() and (column == 0).any())


def balance(targets: np.ndarray, kind: str, most: float) -> Tensor | None:
    """Weight of present findings [L], from 1 / `most` to `most`; None: all the same.

    Args:
        targets: [films, L] of the training films.
        kind: "pos_weight", absent films for each present one, or "effective", the same of effective numbers
            (arXiv 1901.05555), which grow more slowly than the films.
    """
    if kind == "none":
        return None
    present, absent = np.nansum(targets == 1, axis=0), np.nansum(targets == 0, axis=0)
    if kind == "effective":
        present, absent = 1 - _BETA**present, 1 - _BETA**absent
    return torch.from_numpy((absent / np.maximum(present, 1e-9)).clip(1 / most, most)).float()


def few_to_choose_by(targets: np.ndarray) -> list[str]:
    """A note where validation, targets [films, L], is so small that the best evaluation is so mostly by chance."""
    rarer = np.minimum((targets == 1).sum(axis=0), (targets == 0).sum(axis=0)).max(initial=0)
    if rarer >= _FEW_TO_CHOOSE:
        return []
    return [
        f"The best weights are chosen on {len(targets):,} films, where no label is both present and absent more than "
        f"{rarer} times: that choice is mostly chance. Prepare more films for validation."
    ]


def _notes(labels: tuple[str, ...], targets: np.ndarray) -> list[str]:
    one_sided = [name for name, column in zip(labels, targets.T, strict=True) if not both_classes(column)]
    if not one_sided:
        return []
    return [f"The sampled training films show one value only of these labels, so they are not learnt: {one_sided}."]

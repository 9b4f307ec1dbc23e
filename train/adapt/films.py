"""The films that a head learns from: splits, held-out patients, shares of the labels, decoded images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.mixture import PAIR, Mixture, load_mixture
from data_scripts.prepared.patient_sample import VALIDATION_SHARE, draw_patients, hold_out
from data_scripts.schema import DataError


@dataclass
class Splits:
    """The training and validation films of a run: splits, and the rows of them that are used.

    `validation` may be the training split itself, of which other patients are held out.
    """

    train: Dataset
    train_rows: np.ndarray
    validation: Dataset
    validation_rows: np.ndarray
    notes: list[str] = field(default_factory=list)

    @property
    def train_films(self) -> int:
        """Different films: a mixture may repeat some."""
        return len(_each_once(self.train, self.train_rows))

    @property
    def train_patients(self) -> int:
        return _count_patients(self.train, self.train_rows)

    @property
    def validation_patients(self) -> int:
        return _count_patients(self.validation, self.validation_rows)


def load_splits(mixture: Mixture, columns: tuple[str, ...]) -> tuple[Dataset, Dataset | None]:
    """The training split of a mixture, and its validation split; None where no folder has one with films."""
    train = load_mixture(mixture, "train", columns)
    try:
        validation = load_mixture(mixture, "validation", columns)
    except DataError:
        # The folders were read a moment ago: what they lack is the split.
        return train, None
    return train, validation if len(validation) else None


def choose_films(
    train: Dataset,
    validation: Dataset | None,
    usable: Callable[[Dataset], np.ndarray],
    can_choose: Callable[[Dataset, np.ndarray], bool],
    share: float,
    seed: int,
) -> Splits:
    """The films to train on and those that choose the best weights.

    Args:
        usable: rows of a split that the task can use.
        can_choose: whether these rows of a split can tell good weights from bad.
        share: of the training patients, sampled by the seed after the held-out ones were left out.

    Raises:
        DataError: no training film is usable, or nothing is left to choose the weights by.
    """
    rows = usable(train)
    notes = []
    if len(rows) == 0:
        raise DataError(f"none of the {len(train):,} training films can be used for this task")
    if validation is not None and can_choose(validation, usable(validation)):
        chooser, chooser_rows = validation, usable(validation)
    else:
        held_out = hold_out(_patients(train, rows), seed)
        # A film that the mixture repeats is not more of a reason to choose weights, or a point, by.
        chooser, chooser_rows, rows = train, _each_once(train, rows[held_out]), rows[~held_out]
        if not can_choose(chooser, chooser_rows):
            raise DataError(
                f"no validation split can evaluate this task, nor can the {len(chooser_rows):,} films that were held "
                "out of training: none of what is learnt is both present and absent among them"
            )
        notes.append(
            f"No validation split that can evaluate: {len(chooser_rows):,} training films of {VALIDATION_SHARE:.0%} of "
            f"the patients, sampled by seed {seed}, were held out and chose the weights."
        )
    sampled = rows[draw_patients(_patients(train, rows), share, seed)] if share < 1 else rows
    splits = Splits(train, sampled, chooser, chooser_rows, notes)
    shared = set(_patients(train, sampled)) & set(_patients(chooser, chooser_rows))
    if shared:
        splits.notes.append(f"{len(shared):,} patients have films both in training and in validation.")
    return splits


def _each_once(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """The first of the rows of each film; all of them where no mixture repeats any."""
    if PAIR not in dataset.column_names:
        return rows
    _, first = np.unique(np.asarray(read_column(dataset, PAIR, rows)), return_index=True)
    return rows[np.sort(first)]


def _patients(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    return np.asarray(read_column(dataset, "patient_id"))[rows]


def _count_patients(dataset: Dataset, rows: np.ndarray) -> int:
    return len(np.unique(_patients(dataset, rows)))

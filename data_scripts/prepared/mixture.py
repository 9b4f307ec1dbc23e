"""Several prepared folders as one training corpus, named in a YAML file.

seed: 0                      # of what is left out; 0 if not given
parts:
  - folder: data/mimic
  - folder: data/nih
    weight: 0.5              # a random half of its pairs
    cap: 20000               # and never more than so many
  - folder: data/own
    weight: 3                # every pair three times

Weights and caps are of the training split: what is evaluated on counts every film once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import datasets
import numpy as np
import yaml
from datasets import Dataset

from data_scripts.prepared.columns import read_column
from data_scripts.prepared.folder import load_prepared
from data_scripts.prepared.id_files import check_told_apart, read_ids, rows_of_ids
from data_scripts.prepared.overlap import known_overlaps, loaders_of
from data_scripts.schema import DataError

#: A column of numbers, equal where a row repeats another. Ids may be those of two hospitals' films.
PAIR = "mixture_pair"


@dataclass(frozen=True)
class Part:
    """A prepared folder of a mixture: how many times each of its pairs is in it, and how many pairs at most."""

    folder: str
    weight: float = 1.0
    cap: int | None = None


@dataclass(frozen=True)
class Mixture:
    """The parts of a corpus, the seed of what is left out of them, and the file of ids that training is limited to
    (`data_scripts.prepared.subsets`; None: all).
    """

    parts: tuple[Part, ...]
    seed: int = 0
    subset: str | None = None

    @property
    def folders(self) -> list[str]:
        return [part.folder for part in self.parts]

    def moved(self, folders: Sequence[str]) -> Mixture:
        """The same mixture of `folders`, in the order of the parts.

        Raises:
            DataError: there are more or fewer folders than parts.
        """
        if len(folders) != len(self.parts):
            raise DataError(f"{len(folders)} folders were given for the {len(self.parts)} parts {self.folders}")
        pairs = zip(self.parts, folders, strict=True)
        return replace(self, parts=tuple(replace(part, folder=folder) for part, folder in pairs))

    @property
    def repeats(self) -> bool:
        """Whether some pairs are in the corpus several times."""
        return any(part.weight > 1 for part in self.parts)

    @classmethod
    def from_json(cls, values: dict) -> Mixture:
        """What `dataclasses.asdict` made of a mixture."""
        return cls(tuple(Part(**part) for part in values["parts"]), values["seed"], values.get("subset"))


def read_mixture(path: Path) -> Mixture:
    """Raises DataError naming the file and entry: not YAML, an unknown name, a weight or cap that cannot be."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such mixture file")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("parts"), list) or not content["parts"]:
        raise DataError(f"{path}: a mixture has a list `parts`, each with a `folder` and optionally `weight` and `cap`")
    unknown = set(content) - {"parts", "seed"}
    if unknown:
        raise DataError(f"{path}: unknown entry {sorted(unknown)}, there are parts and seed")
    parts = tuple(_read_part(path, number, entry) for number, entry in enumerate(content["parts"], start=1))
    folders = [part.folder for part in parts]
    if len(set(folders)) < len(folders):
        raise DataError(f"{path}: a folder is named twice in {folders}; give it a weight instead")
    return Mixture(parts, int(content.get("seed", 0)))


def _read_part(path: Path, number: int, entry) -> Part:
    known = {field.name for field in fields(Part)}
    if not isinstance(entry, dict) or "folder" not in entry or set(entry) - known:
        raise DataError(f"{path}, part {number}: {entry!r} must have a folder, and of {sorted(known)} nothing else")
    part = Part(**entry)
    if not isinstance(part.weight, (int, float)) or not 0 < part.weight < math.inf:
        raise DataError(f"{path}, part {number}: weight is {part.weight!r}, it must be a number above 0")
    if part.cap is not None and (not isinstance(part.cap, int) or part.cap < 1):
        raise DataError(f"{path}, part {number}: cap is {part.cap!r}, it must be a whole number of at least 1")
    return part


def mixed_rows(count: int, part: Part, seed: tuple[int, ...]) -> np.ndarray:
    """Rows of a part of `count` pairs that are in the mixture: whole repetitions, then a random rest, then the cap."""
    whole, rest = divmod(round(part.weight * count), count)
    generator = np.random.default_rng(seed)
    rows = np.concatenate([np.tile(np.arange(count), whole), np.sort(generator.permutation(count)[:rest])])
    if part.cap is not None and len(rows) > part.cap:
        rows = np.sort(generator.choice(rows, part.cap, replace=False))
    return rows


def load_mixture(mixture: Mixture, split: str, columns: tuple[str, ...]) -> Dataset:
    """The split of all parts, one after the other; parts without the split are passed over.

    Of the training split with weights and caps, and the mixture's `subset` alone; of other splits every pair once.
    Where the mixture repeats pairs, the column `PAIR` tells which rows are one.

    Raises:
        DataError: a folder is no prepared dataset (see `load_prepared`), none has the split, or the subset has ids that
            the training split has not, or that films of two folders have.
    """
    loaded, folders = [], []
    pairs = 0
    for number, part in enumerate(mixture.parts):
        splits = load_prepared(part.folder, columns)
        if split in splits:
            # By the place in the list, so that a folder may be moved.
            rows, whole = mixed_rows(len(splits[split]), part, (mixture.seed, number)), splits[split]
            if split == "train" and mixture.repeats:
                whole = whole.add_column(PAIR, np.arange(pairs, pairs + len(whole)))
                pairs += len(whole)
            loaded.append(whole.select(rows) if split == "train" else whole)
            folders.append(part.folder)
    if split == "train":
        for warning in known_overlaps(loaders_of(mixture.folders)):
            warnings.warn(f"parts of the mixture share films: {warning}", stacklevel=2)
    if not loaded:
        raise DataError(f"none of the dataset folders {mixture.folders} has a split {split!r}")
    whole = datasets.concatenate_datasets(loaded)
    if split == "train" and mixture.subset is not None:
        ids = read_ids(Path(mixture.subset))
        known = [set(read_column(part, "record_id")).intersection(ids) for part in loaded]
        check_told_apart(folders, known)
        return whole.select(rows_of_ids(read_column(whole, "record_id"), ids, mixture.subset))
    return whole

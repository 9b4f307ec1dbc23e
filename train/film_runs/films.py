"""Films without words or labels: how they are loaded, and which are in which batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import datasets
import numpy as np
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler

from data_scripts.prepared.films import FilmDataset, decode, film_pixels
from data_scripts.prepared.mixture import Mixture, load_mixture
from data_scripts.schema import DataError
from modeling_chexficient import to_eight_bit


def load_films(mixture: Mixture) -> Dataset:
    """The training split. Raises DataError where there are no films."""
    dataset = load_mixture(mixture, "train", ("record_id", "image"))
    undecoded = dataset.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
    if len(dataset) == 0 or undecoded[0]["image"] is None:
        raise DataError(
            f"the training split of {mixture.folders} has no films: prepare them anew with their images, or name a "
            "folder that has some"
        )
    return dataset


def side_of_first(films: FilmDataset) -> int:
    """The shorter side of the first film, in pixels."""
    stored = films.dataset[int(films.rows[0])]["image"]
    return min(decode(stored, "the first film").size)


@dataclass(frozen=True)
class FilmCollator:
    """Rows of films as {"films": uint8 [B, 1, size, size]}; colour becomes grey."""

    size: int

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        return {"films": film_pixels([to_eight_bit(row["image"]).convert("L") for row in rows], self.size)}


class FilmBatches(Sampler[list[int]]):
    """The batches of a whole run: an endless sequence of shuffled passes, cut into batches of all processes.

    They depend on the seed alone; each process takes its slice. A batch may hold the end of a pass and the beginning of
    the next, and of a corpus smaller than a batch a film several times.

    Args:
        films: in the corpus.
        batch_size: over all processes.
        batches: of the run.
    """

    def __init__(self, films: int, batch_size: int, batches: int, seed: int, rank: int, processes: int):
        self.films, self.batch_size, self.batches, self.seed = films, batch_size, batches, seed
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        own = self.batch_size // self.processes
        stream = self._stream()
        for _ in range(self.batches):
            batch = [next(stream) for _ in range(self.batch_size)]
            yield batch[self.rank * own : (self.rank + 1) * own]

    def _stream(self) -> Iterator[int]:
        number = 0
        while True:
            yield from np.random.default_rng((self.seed, number)).permutation(self.films).tolist()
            number += 1


def batch_generator(seed: int, batch: int) -> np.random.Generator:
    """Of the crops and masks of a batch, alike on all processes; apart from those that shuffle."""
    return np.random.default_rng((seed, batch, 1))

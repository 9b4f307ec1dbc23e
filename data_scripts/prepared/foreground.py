"""The order of the training films, in which those with a rare structure come oftener than they are there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class ForegroundSampler(Sampler[int]):
    """As many films an epoch as there are, a share of which show a structure that fewer films show by themselves.

    As nnU-Net oversamples foreground (arXiv 1904.08128), with films in place of patches: at every place of this share,
    spread evenly over the batches, such a structure is drawn, then a film that shows it. The other places are a plain
    shuffle without the films whose place was taken. The order depends on seed and epoch alone, so several processes,
    which take batches in turn, and a run that goes on see what one process sees.

    Args:
        shows: bool [films, structures].
        share: below 1; a third in nnU-Net, 0: a plain shuffle.
        seed: of the order.

    Attributes:
        rare: the films by number of the structure, of those that some films show, but fewer than `share`.
    """

    def __init__(self, shows: np.ndarray, share: float, seed: int):
        self.films, self.share, self.seed, self.epoch = len(shows), share, seed, 0
        self.rare = {
            number: np.flatnonzero(column) for number, column in enumerate(shows.T) if 0 < column.mean() < share
        }

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.films

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(self.films)
        if self.rare:
            places = np.flatnonzero(np.diff(np.floor(np.arange(self.films + 1) * self.share)))
            of_structure = generator.choice(list(self.rare), size=len(places))
            order[places] = [generator.choice(self.rare[number]) for number in of_structure]
        yield from order.tolist()

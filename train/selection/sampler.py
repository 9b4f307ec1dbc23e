"""Which pairs are seen when, and by which process: only this module decides it.

A run has up to three phases: a plain warm-up on random batches, curation passes over the whole corpus in
super-batches, and training on the kept subset. Batches are lists of row numbers of the corpus, which stay the same
in all phases. They depend on the seed alone, never on the number of processes: each process takes its slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import Sampler

from train.selection.balance import MOST_VISITS, draw_pass, visit_rates
from train.selection.state import CurationState


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


@dataclass(frozen=True)
class Schedule:
    """How many batches each phase has. `super_batch_size` and `batch_size` count pairs over all processes.

    `accumulate` batches make an optimiser step. Every phase holds a multiple of them, so that no step mixes phases.
    Without curation epochs, `selects` tells whether the last phase goes over a subset chosen beforehand.
    """

    num_rows: int
    super_batch_size: int
    batch_size: int
    warmup_steps: int
    curation_epochs: int
    subset_steps: int
    selects: bool = True
    accumulate: int = 1

    @property
    def steps_per_pass(self) -> int:
        return round_up(math.ceil(self.num_rows / self.super_batch_size), self.accumulate)

    @property
    def curation_end(self) -> int:
        """The first step of the subset phase."""
        return self.warmup_steps + self.curation_epochs * self.steps_per_pass

    @property
    def total_steps(self) -> int:
        return self.curation_end + self.subset_steps

    def is_first_of_pass(self, step: int) -> bool:
        """Whether a curation pass begins at this step."""
        return self.is_curating(step) and (step - self.warmup_steps) % self.steps_per_pass == 0

    def is_curating(self, step: int) -> bool:
        return self.warmup_steps <= step < self.curation_end


class CurationBatchSampler(Sampler[list[int]]):
    """Batches of one process, in Trainer epochs of a fixed number of steps.

    Epoch 0 holds warm-up and curation, if there are any. A data loader asks ahead of training, but never across
    epochs; as all curation lies in epoch 0, the kept subset is complete before a batch of it is asked for. Later epochs
    cut an endless stream of reshuffled passes over the subset into pieces of the same length, since Trainer fixes the
    length of an epoch at its start.

    Args:
        change: what the rows of a batch of all processes become, in the same order, given the epoch and the number of
            the batch in it; outside of curation alone. None: they stay.
        concepts: [num_rows, C] bool of the corpus, by which passes outside of curation are balanced. None: they see
            every pair once.
        exponent: of `visit_rates`, for balancing.
    """

    def __init__(
        self,
        schedule: Schedule,
        state: CurationState,
        seed: int,
        rank: int,
        world_size: int,
        change: Callable[[np.ndarray, int, int], np.ndarray] | None = None,
        concepts: Tensor | None = None,
        exponent: float = 0.0,
    ):
        self.concepts = concepts
        self.exponent = exponent
        self.change = change
        self.schedule = schedule
        self.state = state
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        # With one phase there is one epoch of it.
        return self.schedule.curation_end or self.schedule.subset_steps

    def __iter__(self) -> Iterator[list[int]]:
        for number, batch in enumerate(self.global_batches(self.epoch)):
            if self.change is not None and not (self.epoch == 0 and self.schedule.is_curating(number)):
                batch = self.change(batch, self.epoch, number)
            yield np.array_split(batch, self.world_size)[self.rank].tolist()

    def global_batches(self, epoch: int) -> Iterator[np.ndarray]:
        """The batches of all processes together."""
        if epoch == 0 and self.schedule.curation_end > 0:
            yield from self._stream(self.schedule.num_rows, self.schedule.warmup_steps, phase=0)
            for curation_pass in range(self.schedule.curation_epochs):
                yield from self._super_batches(curation_pass)
            return
        number = epoch - 1 if self.schedule.curation_end > 0 else epoch
        rows = self.state.kept_rows.numpy() if self.schedule.selects else self.schedule.num_rows
        yield from self._stream(rows, len(self), phase=2, skip=number * len(self))

    def _super_batches(self, curation_pass: int) -> Iterator[np.ndarray]:
        order = self._shuffled(self.schedule.num_rows, 1, curation_pass)
        # Nearly equal super-batches rather than a short last one, whose clusters would hold too few pairs.
        for part in np.array_split(order, self.schedule.steps_per_pass):
            # A copy, so that the order does not stay, by one of its batches, while the next is made.
            yield part.astype(np.int64)

    def _stream(self, rows: np.ndarray | int, steps: int, phase: int, skip: int = 0) -> Iterator[np.ndarray]:
        """Batches `skip` to `skip + steps` of an endless sequence of shuffled passes over `rows`, or so many.

        A pass is as long as there are rows, balanced or not, and leaves out the remainder by batch size. Fewer rows
        than a batch make smaller batches, equal on all processes, as the loss needs them.
        """
        count = rows if isinstance(rows, int) else len(rows)
        size = min(self.schedule.batch_size, count) // self.world_size * self.world_size
        if size == 0:
            raise ValueError(f"{count} pairs are too few for {self.world_size} processes: raise keep_share")
        steps_per_pass = count // size
        rates = self._rates(rows, steps_per_pass)
        order, current = None, -1
        for step in range(skip, skip + steps):
            number, position = divmod(step, steps_per_pass)
            if number != current:
                # The old order goes before the new one is made.
                order = None
                order, current = self._pass_over(rows, rates, phase, number), number
            yield order[position * size : (position + 1) * size].astype(np.int64)

    def _rates(self, rows: np.ndarray | int, steps_per_pass: int) -> np.ndarray | None:
        """How often each of `rows` is to be seen in a pass; None: once."""
        if self.concepts is None:
            return None
        concepts = self.concepts if isinstance(rows, int) else self.concepts[rows]
        # With more copies than batches, some would meet in one.
        return visit_rates(concepts, self.exponent, min(MOST_VISITS, steps_per_pass))

    def _pass_over(self, rows: np.ndarray | int, rates: np.ndarray | None, *key: int) -> np.ndarray:
        if rates is None:
            return self._shuffled(rows, *key)
        order = draw_pass(rates, np.random.default_rng((self.seed, *key)))
        return order if isinstance(rows, int) else rows[order]

    def _shuffled(self, rows: np.ndarray | int, *key: int) -> np.ndarray:
        """A random order of `rows`, or of so many: that of `Generator.permutation`, in half of its memory."""
        kind = np.int32 if self.schedule.num_rows <= np.iinfo(np.int32).max else np.int64
        order = np.arange(rows, dtype=kind) if isinstance(rows, int) else rows.astype(kind)
        np.random.default_rng((self.seed, *key)).shuffle(order)
        return order

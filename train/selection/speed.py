"""What the bookkeeping of a selection costs for each pair, as a ratio to shuffling as many numbers.

    python -m train.selection.speed --pairs 1000000 10000000

The ratio must not grow with the number of pairs: a pass over the corpus costs the same for each of them, however many
there are.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from data_scripts.speed import time_ratios
from train.selection.outcome import Role, Selection
from train.selection.sampler import CurationBatchSampler, Schedule
from train.selection.state import CurationState


def keep_books(num_pairs: int) -> CurationState:
    """One pass of the sampler over all pairs in super-batches of 8192; a quarter of them is recorded as kept."""
    schedule = Schedule(num_pairs, 8192, 4096, warmup_steps=0, curation_epochs=1, subset_steps=0)
    state = CurationState.for_corpus(num_pairs, map_sample_size=1000, seed=0)
    sampler = CurationBatchSampler(schedule, state, seed=0, rank=0, world_size=1)
    for batch in sampler.global_batches(0):
        roles = torch.from_numpy((batch % 4 == 0).astype(np.int8)) * int(Role.CENTRAL)
        state.record(torch.from_numpy(batch), Selection(roles, torch.zeros(len(batch), dtype=torch.int64)))
    return state


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="train.selection.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[1_000_000, 10_000_000], help="Sizes of the corpus.")
    parser.add_argument("--repeats", type=int, default=3, help="Turns; the medians are shown.")
    parsed = parser.parse_args(arguments)
    for pairs in parsed.pairs:
        books = {"books": lambda pairs=pairs: keep_books(pairs)}
        ratio = time_ratios(books, lambda pairs=pairs: np.random.default_rng(0).permutation(pairs), parsed.repeats)
        print(f"bookkeeping of {pairs:,} pairs: {ratio['books']:.1f} times shuffling as many numbers")


if __name__ == "__main__":
    main()

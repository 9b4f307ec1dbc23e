"""What the bookkeeping of a selection costs for each pair: time, as a ratio to shuffling as many numbers, and memory.

    python -m train.selection.speed --pairs 100000 1000000 10000000

A pass over the corpus should cost the same for each pair, however many there are. Shuffling does not, since the numbers
of a large corpus fit into no cache: the ratio to it must not grow, and the bytes a pair not exceed 16.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from data_scripts.command_line import command_name, positive
from data_scripts.speed import time_ratios
from train.runs.memory import peak_memory
from train.selection.outcome import Role, Selection
from train.selection.sampler import CurationBatchSampler, Schedule
from train.selection.state import CurationState


def keep_books(num_pairs: int) -> CurationState:
    """Warm-up and one pass of the sampler over all pairs in super-batches of 8192; a quarter is recorded as kept."""
    schedule = Schedule(num_pairs, 8192, 4096, warmup_steps=1, curation_epochs=1, subset_steps=0)
    state = CurationState.for_corpus(num_pairs, map_sample_size=1000, seed=0)
    sampler = CurationBatchSampler(schedule, state, seed=0, rank=0, world_size=1)
    for number, batch in enumerate(sampler.global_batches(0)):
        if schedule.is_curating(number):
            roles = torch.from_numpy((batch % 4 == 0).astype(np.int8)) * int(Role.CENTRAL)
            state.record(torch.from_numpy(batch), Selection(roles, torch.zeros(len(batch), dtype=torch.int64)))
    return state


def resume(folder: Path) -> None:
    """Read a saved state and ask for the first batch of the kept pairs."""
    state = CurationState.load(folder)
    schedule = Schedule(state.num_rows, 8192, 64, warmup_steps=1, curation_epochs=1, subset_steps=1)
    next(CurationBatchSampler(schedule, state, seed=0, rank=0, world_size=1).global_batches(1))


def measure(num_pairs: int, repeats: int) -> dict[str, float]:
    """Ratios to shuffling `num_pairs` numbers: of the books of a pass, and of resuming."""
    with tempfile.TemporaryDirectory() as folder:
        keep_books(num_pairs).save(Path(folder))
        works = {"books": lambda: keep_books(num_pairs), "resume": partial(resume, Path(folder))}
        return time_ratios(works, lambda: np.random.default_rng(0).permutation(num_pairs), repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=command_name(), description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=positive, nargs="+", default=[1_000_000, 10_000_000], help="Of the corpus.")
    parser.add_argument("--repeats", type=positive, default=5, help="Turns; the medians are shown.")
    parsed = parser.parse_args(arguments)
    peak = partial(peak_memory, torch.device("cpu"))
    before, sizes, ratios, memory = peak(), sorted(parsed.pairs), [], 0
    for pairs in sizes:
        keep_books(pairs)
        # Shuffling, which is timed beside it, takes more.
        memory = peak() - before
        ratios.append(measure(pairs, parsed.repeats))
        print(
            f"bookkeeping of {pairs:,} pairs: {ratios[-1]['books']:.1f} times shuffling as many numbers, resuming "
            f"{ratios[-1]['resume']:.1f} times; {memory / 1e6:,.0f} MB",
            flush=True,
        )
    if sizes[0] < sizes[-1]:
        growth = math.log(ratios[-1]["books"] / ratios[0]["books"]) / math.log(sizes[-1] / sizes[0])
        print(f"exponent of the books over that of shuffling: {growth:+.2f}; {memory / sizes[-1]:.1f} bytes a pair")


if __name__ == "__main__":
    main()

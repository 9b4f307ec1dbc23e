"""How fast the synthetic corpus is rendered and reports are read, as ratios to a fixed piece of numpy work.

    python -m data_scripts.speed

Seconds differ from machine to machine and with what else runs on it; the ratio of two pieces of work that take turns in
one process differs much less. A ratio that grows between two commits on one machine says that the work became slower.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from data_scripts.command_line import command_name, positive
from data_scripts.extraction.rules import extract_findings, judge_sentence
from data_scripts.synthetic import SyntheticOptions, draw_film, make_case, write_report

#: Side of the films in pixels, as in `make demo`.
SIZE = 112


def numpy_work() -> None:
    """The unit of all ratios, about 3 ms on one core of 2020: noise of 256 x 256 pixels, blurred by its spectrum."""
    noise = np.random.default_rng(0).standard_normal((256, 256))
    spectrum = np.fft.rfft2(noise)
    np.fft.irfft2(spectrum * np.exp(-np.arange(spectrum.shape[1]) / 16))


def time_ratios(works: dict[str, Callable[[], None]], reference: Callable[[], None], repeats: int) -> dict[str, float]:
    """Processor time of each work in units of `reference`, by its name: the median over `repeats` turns.

    In a turn the reference and then every work run once, so that a busy machine slows all alike. One turn before
    the first fills caches and is not counted.
    """

    turns = []
    for _ in range(repeats + 1):
        # The clock's tick is no less than a microsecond.
        before = max(_processor_seconds(reference), 1e-6)
        turns.append({name: _processor_seconds(work) / before for name, work in works.items()})
    return {name: median(turn[name] for turn in turns[1:]) for name in works}


class Ratio(NamedTuple):
    """How many times the time of one piece of work another takes: median, lowest and highest of the turns."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, turns: Sequence[float]) -> Ratio:
        return cls(median(turns), min(turns), max(turns))

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.lowest:.2f}, {self.highest:.2f}]"


def compare(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int, units: tuple[int, int] = (1, 1)
) -> Ratio:
    """The processor time of `peer` as a ratio to that of `ours`; the two take turns, after one that is not counted.

    Args:
        units: of work that `ours` and `peer` do in a turn, where they differ: films, resamples.
    """
    turns = [(_processor_seconds(ours) / units[0], _processor_seconds(peer) / units[1]) for _ in range(repeats + 1)]
    return Ratio.of([of_peer / max(own, 1e-9) for own, of_peer in turns[1:]])


def _processor_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(films: int, repeats: int) -> dict[str, float]:
    """Ratios for one film and for one report, of `films` synthetic ones."""
    cases = [make_case(index, SyntheticOptions(num_records=films, seed=3)) for index in range(films)]
    texts = ["\n\n".join(write_report(case)) for case in cases]

    def draw_films() -> None:
        for case in cases:
            draw_film(case, SIZE)

    def write_reports() -> None:
        for case in cases:
            write_report(case)

    def read_findings() -> None:
        # Sentences that were read before are remembered.
        judge_sentence.cache_clear()
        for text in texts:
            extract_findings(text)

    def reference() -> None:
        for _ in range(films):
            numpy_work()

    works = {
        "a film drawn": draw_films,
        "a report written": write_reports,
        "a report read for findings": read_findings,
    }
    return time_ratios(works, reference, repeats)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=command_name(), description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=positive, default=200, help="Films rendered in a turn.")
    parser.add_argument("--repeats", type=positive, default=5, help="Turns; the medians are shown.")
    parsed = parser.parse_args(arguments)
    for work, ratio in measure(parsed.films, parsed.repeats).items():
        print(f"{work}: {ratio:.2f} times the fixed numpy work")


if __name__ == "__main__":
    main()

"""How fast evaluation is, beside the ways that come to mind first.

    python -m eval.speed
    python -m eval.speed --pairs 100000

Ratios of processor time, median and range of turns in one process: intervals of AUROC and average precision by patient
against a loop over scikit-learn (of few resamples, extrapolated), at the size of NIH ChestX-ray14's test split with
simulated scores. Of the ranks of retrieval, which have no such peer, seconds and memory. Memory is the peak of what
arrays take, the data not counted.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from data_scripts.speed import Ratio, compare
from eval.statistics.ranked_labels import RankedLabels
from eval.statistics.significance import resample_by_patient
from eval.tasks.ranking import pair_up, retrieval_ranks

#: Test films and patients of NIH ChestX-ray14, and about the shares of its fourteen findings and "No Finding".
FILMS, PATIENTS = 25_596, 2_797
SHARES = (0.13, 0.04, 0.18, 0.24, 0.07, 0.06, 0.02, 0.10, 0.07, 0.04, 0.04, 0.02, 0.045, 0.003, 0.39)


def simulate(films: int, patients: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores and targets [films, 15] of labels as frequent as NIH's, and whose film each is."""
    generator = np.random.default_rng(seed)
    targets = (generator.random((films, len(SHARES))) < SHARES).astype(float)
    return generator.standard_normal(targets.shape) + targets, targets, generator.integers(patients, size=films)


def intervals(scores: np.ndarray, targets: np.ndarray, patients: np.ndarray, resamples: int) -> np.ndarray:
    """AUROC and average precision [1 + resamples, 2, labels], resampled by patient."""
    return resample_by_patient(RankedLabels(scores, targets).both, patients, resamples, seed=0)


def loop_over_resamples(scores: np.ndarray, targets: np.ndarray, patients: np.ndarray, resamples: int) -> np.ndarray:
    """The same by scikit-learn, label by label and resample by resample: [resamples, labels, 2]."""
    generator = np.random.default_rng(0)
    films_of = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    values = np.zeros((resamples, targets.shape[1], 2))
    for number in range(resamples):
        films = np.concatenate([films_of[patient] for patient in generator.integers(len(films_of), size=len(films_of))])
        for label in range(targets.shape[1]):
            truth, score = targets[films, label], scores[films, label]
            values[number, label] = roc_auc_score(truth, score), average_precision_score(truth, score)
    return values


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that arrays made by `work` took at a time."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def interval_ratio(films: int, patients: int, resamples: int, looped: int, repeats: int) -> tuple[Ratio, int]:
    """Processor time of the loop over that of `intervals` for one resample, and the peak memory of `intervals`."""
    data = simulate(films, patients)
    ours = partial(intervals, *data, resamples)
    ratio = compare(ours, partial(loop_over_resamples, *data, looped), repeats, units=(resamples, looped))
    return ratio, peak_bytes(ours)


def time_retrieval(count: int, width: int = 512) -> tuple[float, int]:
    """Processor seconds and peak memory of the ranks of `count` films among as many texts, both ways."""
    generator = np.random.default_rng(0)
    films, texts = (generator.standard_normal((count, width)).astype(np.float32) for _ in range(2))
    films, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (films, texts))
    pairs = pair_up([str(number) for number in range(count)], list(range(count)))
    start = time.process_time()
    # Measured as it runs: the matrix products are not slowed by it.
    peak = peak_bytes(lambda: retrieval_ranks(films, texts, pairs))
    return time.process_time() - start, peak


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="eval.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=FILMS, help="Films of the intervals.")
    parser.add_argument("--patients", type=int, default=PATIENTS, help="Patients whose films they are.")
    parser.add_argument("--resamples", type=int, default=1000, help="Resamples of ours.")
    parser.add_argument("--looped", type=int, default=20, help="Resamples of the loop.")
    parser.add_argument("--pairs", type=int, default=20_000, help="Films, and texts, of retrieval.")
    parser.add_argument("--repeats", type=int, default=5, help="Turns; medians and ranges are shown.")
    parsed = parser.parse_args(arguments)
    numbers = ("films", "patients", "resamples", "looped", "pairs", "repeats")
    wrong = [name for name in numbers if getattr(parsed, name) < 1]
    if wrong:
        parser.error(f"{' and '.join('--' + name for name in wrong)} must be at least 1")
    ratio, peak = interval_ratio(parsed.films, parsed.patients, parsed.resamples, parsed.looped, parsed.repeats)
    print(
        f"intervals of {parsed.films:,} films: a loop takes {ratio} times ours, which takes {peak / 1e6:,.0f} MB",
        flush=True,
    )
    seconds, peak = time_retrieval(parsed.pairs)
    print(f"ranks of {parsed.pairs:,} films and texts: {seconds:.1f} s, {peak / 1e6:,.0f} MB", flush=True)


if __name__ == "__main__":
    main()

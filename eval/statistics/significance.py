"""Is one model better than another on these films? DeLong's test, bootstrap by patient, Holm's correction.

DeLong's covariance is computed from midranks (Sun and Xu, IEEE Signal Processing Letters 21(11), 2014), and, where a
patient has several films, from sums over patients (Obuchowski, Biometrics 53(2), 1997), since those films are not
independent; with one film a patient both are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from eval.records.results import Estimate
from eval.statistics.metrics import LEAST_PATIENTS, macro_means
from eval.statistics.ranked_labels import RankedLabels

#: Numbers of the weights that are held at once: 32 MiB of float64.
_BLOCK_ELEMENTS = 1 << 22
_NORMAL_QUANTILE = float(norm.ppf(0.975))


@dataclass(frozen=True)
class DeLongTest:
    """Two AUROCs on the same films, `first` minus `second` with its 95 % interval, and the two-sided p-value.

    NaN stands for what is not defined: everything where one class is missing, the interval and p-value where a class
    has one patient only, or where the variance is 0 although the AUROCs differ.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class LabelDifference:
    """One label under two models: `difference` is first minus second; `p_holm` is corrected over all labels tested."""

    name: str
    first: float | None
    second: float | None
    difference: Estimate
    p_value: float | None
    p_holm: float | None
    films: int
    positives: int


@dataclass(frozen=True)
class ModelDifference:
    """Two models on the same films: every label by DeLong's test, the macro mean by paired bootstrap over patients."""

    labels: list[LabelDifference]
    macro: Estimate
    macro_p_value: float | None
    films: int
    patients: int
    resamples: int
    seed: int


def delong_covariance(
    scores: np.ndarray, targets: np.ndarray, patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AUROCs [k] of k models on the same films, and the covariance [k, k] of these estimates.

    Args:
        scores: [k, n], finite; ties count half.
        targets: [n], 0 or 1.
        patients: [n], whose film each is; None: every film is another patient's.

    Returns:
        NaN throughout where one class is missing; a covariance of NaN where one class has a single patient.
    """
    positive = targets > 0
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    ranks = rankdata(scores, axis=1)
    # Structural components: the share of the other class that each film is on the right side of.
    of_positives = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / n
    of_negatives = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / m
    aurocs = of_positives.mean(axis=1)
    patients = np.arange(len(targets)) if patients is None else np.unique(patients, return_inverse=True)[1]
    positive_sums = _sums_by_patient(of_positives - aurocs[:, None], patients[positive], patients.max() + 1) / m
    negative_sums = _sums_by_patient(of_negatives - aurocs[:, None], patients[~positive], patients.max() + 1) / n
    mixed = positive_sums @ negative_sums.T
    covariance = (
        _correction(patients[positive]) * positive_sums @ positive_sums.T
        + _correction(patients[~positive]) * negative_sums @ negative_sums.T
        + _correction(patients) * (mixed + mixed.T)
    )
    return aurocs, covariance


def _sums_by_patient(values: np.ndarray, patients: np.ndarray, count: int) -> np.ndarray:
    """Sums [k, count] of `values` [k, n] over the films of each patient."""
    return np.stack([np.bincount(patients, row, minlength=count) for row in values])


def _correction(patients: np.ndarray) -> float:
    """I / (I - 1) for I patients: a variance estimated from I sums; NaN for a single one."""
    count = len(np.unique(patients))
    return count / (count - 1) if count > 1 else np.nan


def delong_test(
    first: np.ndarray, second: np.ndarray, targets: np.ndarray, patients: np.ndarray | None = None
) -> DeLongTest:
    """Whether two models' AUROCs on the same films differ (DeLong et al., Biometrics 44(3), 1988).

    Args:
        first, second: scores [n] of the two models, finite.
        targets: [n], 0 or 1.
        patients: [n], whose film each is; None: every film is another patient's.
    """
    aurocs, covariance = delong_covariance(np.stack([first, second]), targets, patients)
    difference = float(aurocs[0] - aurocs[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # Scores in the same order give a variance of 0 but for rounding.
    error = np.sqrt(variance) if variance > 1e-16 else variance * 0
    if error > 0:
        p_value = float(2 * norm.sf(abs(difference) / error))
    else:
        p_value = 1.0 if error == 0 and abs(difference) < 1e-12 else np.nan
    margin = _NORMAL_QUANTILE * error if np.isfinite(p_value) else np.nan
    return DeLongTest(float(aurocs[0]), float(aurocs[1]), difference, difference - margin, difference + margin, p_value)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values [n] adjusted for testing them all (Holm, Scandinavian Journal of Statistics 6(2), 1979).

    NaN, a test that could not be made, stays NaN and does not count as one.
    """
    values = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested])]
    adjusted = np.full(len(values), np.nan)
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def resample_by_patient(
    function: Callable[[np.ndarray], np.ndarray],
    patients: np.ndarray,
    resamples: int,
    seed: int,
    block_elements: int = _BLOCK_ELEMENTS,
) -> np.ndarray:
    """Values [1 + resamples, ...] of a weighted statistic: of the whole, then of patients sampled with replacement.

    Of fewer than `LEAST_PATIENTS` patients the values of all resamples are NaN: no interval is defined.

    Args:
        function: takes weights [R, n], how often each film counts, and gives values [R, ...].
        patients: [n], whose film each is.
        resamples: how often patients are sampled.
        seed: the same seed and patients give the same resamples.
        block_elements: how many weights are held at once; the values do not depend on it.
    """
    return resample_all({"": function}, patients, resamples, seed, block_elements)[""]


def resample_all(
    functions: Mapping[Hashable, Callable[[np.ndarray], np.ndarray]],
    patients: np.ndarray,
    resamples: int,
    seed: int,
    block_elements: int = _BLOCK_ELEMENTS,
) -> dict[Hashable, np.ndarray]:
    """`resample_by_patient` of several statistics, on the same resamples, which are sampled once for all of them.

    The memory is that of `block_elements` weights and of the values: it does not grow with resamples times films.
    """
    _, index = np.unique(patients, return_inverse=True)
    count = int(index.max()) + 1
    generator = np.random.default_rng(seed)
    rows = max(1, block_elements // len(index))
    parts = {name: [function(np.ones((1, len(index))))] for name, function in functions.items()}
    for begin in range(0, resamples, rows):
        counts = generator.multinomial(count, np.full(count, 1 / count), size=min(rows, resamples - begin))
        # Film by film in memory, the order in which the figures read them.
        weights = counts.T.astype(np.float64)[index].T
        for name, function in functions.items():
            parts[name].append(function(weights))
    values = {name: np.concatenate(blocks) for name, blocks in parts.items()}
    if count < LEAST_PATIENTS:
        for resampled in values.values():
            resampled[1:] = np.nan
    return values


def by_patient_intervals(
    function: Callable[[np.ndarray], np.ndarray], patients: np.ndarray, resamples: int, seed: int
) -> list[Estimate]:
    """The k figures of a weighted statistic with 95 % percentile intervals over patients; see `resample_by_patient`.

    `function` gives [R, k]. One that subtracts two models' figures makes a paired bootstrap.
    """
    values = resample_by_patient(function, patients, resamples, seed)
    return [Estimate.of_resamples(column) for column in values.T]


def resample_statistics(
    runs: Sequence[Callable[[np.ndarray], dict[str, np.ndarray]]], patients: np.ndarray, resamples: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """For each run its figures by name [1 + resamples], the whole first; see `resample_by_patient`.

    All runs are evaluated on the same resamples of patients, so what makes a resample easy or hard for all runs cancels
    in the differences.

    Args:
        runs: each takes weights [R, films] and gives figures [R] by name, the same names for all.
        patients: [films], whose film each is, the same for all runs.
    """
    names = list(runs[0](np.ones((1, len(patients)))))

    def all_figures(weights: np.ndarray) -> np.ndarray:
        figures = [run(weights) for run in runs]
        return np.stack([np.stack([run[name] for name in names], axis=1) for run in figures], axis=1)

    values = resample_by_patient(all_figures, patients, resamples, seed)
    return [{name: values[:, run, number] for number, name in enumerate(names)} for run in range(len(runs))]


def mean_statistics(runs: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Means over runs of each figure [1 + resamples], of `resample_statistics`; runs are resampled with the patients.

    The first value is the mean over all runs, each further one that of as many runs drawn with replacement, so that its
    spread is that of other patients and of other seeds. The draws depend on the number of runs alone: of two arms
    with runs of the same seeds they are the same seeds. A single run says nothing of other seeds, and few say
    little: the spread of n runs is too small by sqrt(1 - 1/n).
    """
    count, resamples = len(runs), len(next(iter(runs[0].values()))) - 1
    drawn = np.random.default_rng(0).integers(count, size=(resamples, count))
    # [1 + resamples, runs]: how much each run counts.
    weights = np.vstack([np.ones(count), (drawn[..., None] == np.arange(count)).sum(axis=1)]) / count
    return {name: (weights * np.stack([run[name] for run in runs], axis=1)).sum(axis=1) for name in runs[0]}


def paired_differences(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict[str, Estimate]:
    """First minus second for each figure, with its 95 % percentile interval; both over the same resamples."""
    return {name: Estimate.of_resamples(first[name] - second[name]) for name in first}


def bootstrap_p_value(values: np.ndarray) -> float | None:
    """Two-sided p-value that a difference is 0, from `values` [1 + resamples]; None where it is not defined.

    Twice the share of resamples on the lesser side of 0, counting the sample itself, so never below 2 / (1 + R).
    """
    resampled = values[1:][np.isfinite(values[1:])]
    if np.isnan(values[0]) or len(resampled) == 0:
        return None
    lesser = min(np.sum(resampled <= 0), np.sum(resampled >= 0))
    return float(min(1, 2 * (1 + lesser) / (1 + len(resampled))))


def compare_models(
    names: Sequence[str],
    first: np.ndarray,
    second: np.ndarray,
    targets: np.ndarray,
    patients: np.ndarray,
    resamples: int,
    seed: int,
) -> ModelDifference:
    """Two models on the same films: each label's AUROC and their macro mean.

    Args:
        names: of the labels.
        first, second: scores [n, labels] of the two models for the same films in the same order.
        targets: [n, labels], 1, 0 or NaN (not judged); labels with one class are not tested and out of the mean.
        patients: [n], whose film each is.

    Raises:
        ValueError: the arrays are not of one shape, or a score is not finite.
    """
    if not first.shape == second.shape == targets.shape == (len(patients), len(names)):
        shapes = [array.shape for array in (first, second, targets)]
        raise ValueError(f"scores and targets are {shapes} for {len(patients)} films and {len(names)} labels")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a score is not finite: the models cannot be compared")
    tests = []
    for number in range(len(names)):
        films = np.isfinite(targets[:, number])
        columns = (array[films, number] for array in (first, second, targets))
        tests.append(delong_test(*columns, patients[films]))
    corrected = holm([test.p_value for test in tests])
    labels = [
        _label_difference(name, test, p_holm, targets[:, number])
        for number, (name, test, p_holm) in enumerate(zip(names, tests, corrected, strict=True))
    ]
    ranked = [RankedLabels(scores, targets) for scores in (first, second)]
    macros = resample_by_patient(
        lambda weights: np.stack([labels_of_one.aurocs(weights) for labels_of_one in ranked], axis=1),
        patients,
        resamples,
        seed,
    )
    every = np.zeros(len(names), dtype=bool)
    differences = macro_means(macros[:, 0], every)["macro"] - macro_means(macros[:, 1], every)["macro"]
    return ModelDifference(
        labels,
        Estimate.of_resamples(differences),
        bootstrap_p_value(differences),
        len(patients),
        len(np.unique(patients)),
        resamples,
        seed,
    )


def _label_difference(name: str, test: DeLongTest, p_holm: float, targets: np.ndarray) -> LabelDifference:
    values = (test.first, test.second, test.difference, test.low, test.high, test.p_value, float(p_holm))
    first, second, difference, low, high, p_value, corrected = (None if np.isnan(value) else value for value in values)
    films, positives = int(np.isfinite(targets).sum()), int(np.nansum(targets))
    return LabelDifference(name, first, second, Estimate(difference, low, high), p_value, corrected, films, positives)

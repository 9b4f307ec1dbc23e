"""Shares, enrichments and their intervals for a chosen subset: pure functions on arrays.

All intervals are 95 % intervals of Wilson's score method (E. B. Wilson, JASA 22, 1927): they stay within [0, 1] and
mean something for three films as for a million. Films of one patient are alike and tend to be kept or dropped together,
so the number of pairs is first divided by the design effect by patient (L. Kish, Survey Sampling, 1965; Wilson's
interval with the effective number: N. Dean and M. Pagano, J. Surv. Stat. Methodol. 3, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

#: Quantile of the normal distribution for 95 %.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """`chosen` of `total` pairs, as a share with its 95 % interval; None where there are no pairs."""

    chosen: int
    total: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Enrichment:
    """How much more frequent a finding is among the kept pairs than in the corpus.

    `judged` pairs of the corpus have the label present or absent (uncertain ones are left out), `positives` present;
    `kept_judged` and `kept_positives` of them were kept. `ratio` = kept prevalence / corpus prevalence with its 95 %
    interval; None where nothing is positive or nothing judged was kept.
    """

    name: str
    judged: int
    positives: int
    kept_judged: int
    kept_positives: int
    prevalence: float | None
    kept_prevalence: float | None
    ratio: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over `number` items, with its 95 % interval; None where it is not defined."""

    number: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Duplicates:
    """Pairs of a near-duplicate and its original: how many were both kept, and how many would be by chance."""

    both_kept: Share
    expected: float


def wilson_interval(share: float, number: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a `share` observed in `number` trials (need not be whole; infinity gives the share)."""
    if math.isinf(number):
        return share, share
    squared = _Z * _Z / number
    centre = (share + squared / 2) / (1 + squared)
    half = math.sqrt(share * (1 - share) * squared + squared * squared / 4) / (1 + squared)
    # At 0 and 1 the ends are exact; rounding must not take them beyond.
    return (0.0 if share == 0 else max(0.0, centre - half)), (1.0 if share == 1 else min(1.0, centre + half))


def design_effect(chosen: np.ndarray, patients: np.ndarray) -> float:
    """By how much the variance of a share grows because pairs come in patients; at least 1.

    The ratio of the variance summed by patient to that of independent pairs. Where all or none were chosen it cannot
    be estimated, and the pairs of a patient count as copies of one.

    Args:
        chosen: [n] bool.
        patients: [n] integers, the patient of each pair.
    """
    _, members = np.unique(patients, return_inverse=True)
    residuals = chosen - chosen.mean()
    squares = np.square(residuals).sum()
    if squares == 0:
        return float(np.square(np.bincount(members)).sum() / len(members))
    return max(1.0, float(np.square(np.bincount(members, weights=residuals)).sum() / squares))


def share_of(chosen: np.ndarray, patients: np.ndarray) -> Share:
    """The share of `chosen` [n] bool with its interval by `patients` [n]."""
    if len(chosen) == 0:
        return Share(0, 0, None, None, None)
    value = float(chosen.mean())
    low, high = wilson_interval(value, len(chosen) / design_effect(chosen, patients))
    return Share(int(chosen.sum()), len(chosen), value, low, high)


def enrichment(name: str, kept: np.ndarray, values: np.ndarray, patients: np.ndarray) -> Enrichment:
    """Kept prevalence / corpus prevalence of a finding.

    It equals the share of the positives that was kept over the share of all that was. The kept number is fixed and
    sampled without replacement: the interval is that of the first share alone, for the effective number of positives:
    divided by the design effect and by the hypergeometric (n - positives) / (n - 1), the finite population correction
    (W. G. Cochran, Sampling Techniques, 1977, section 2.6).

    Args:
        kept: [N] bool.
        values: [N] 1 present, 0 absent, -1 uncertain or not judged.
        patients: [N] integers.
    """
    judged, positive = values >= 0, values == 1
    counts = [int(rows.sum()) for rows in (judged, positive, judged & kept, positive & kept)]
    judged_number, positives, kept_judged, kept_positives = counts
    prevalence = positives / judged_number if judged_number else None
    kept_prevalence = kept_positives / kept_judged if kept_judged else None
    if not prevalence or kept_prevalence is None:
        return Enrichment(name, *counts, prevalence, kept_prevalence, None, None, None)
    number = math.inf
    if positives < judged_number:
        number = positives * (judged_number - 1) / (judged_number - positives)
    number /= design_effect(kept[positive], patients[positive])
    overall = kept_judged / judged_number
    low, high = wilson_interval(kept_positives / positives, number)
    ratio = kept_prevalence / prevalence
    return Enrichment(name, *counts, prevalence, kept_prevalence, ratio, low / overall, high / overall)


def any_of(labels: Sequence[np.ndarray], number: int) -> np.ndarray:
    """[number] 1 where any of `labels` (values as in `enrichment`) is present, -1 where none is judged, else 0."""
    return np.max([np.full(number, -1, dtype=np.int8), *labels], axis=0)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Correlation:
    """Spearman's correlation; interval by Fisher's z with the variance of D. G. Bonett and T. A. Wright (2000)."""
    number = len(first)
    if number < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return Correlation(number, None, None, None)
    value = float(spearmanr(first, second).statistic)
    if number < 5 or abs(value) > 1 - 1e-9:
        return Correlation(number, value, None, None)
    half = _Z * math.sqrt((1 + value * value / 2) / (number - 3))
    return Correlation(number, value, math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half))


def duplicate_pairs(duplicate: np.ndarray, studies: np.ndarray, kept: np.ndarray) -> Duplicates | None:
    """How often a near-duplicate and its original were both kept; None where originals cannot be told.

    A copy's original is taken to be the one film of its study that is not flagged; studies with several such films
    (or none) are left out. By chance both would be kept in share^2 of the pairs.

    Args:
        duplicate, kept: [N] bool.
        studies: [N] integers, -1 where the study is not known.
    """
    known = studies >= 0
    original = known & ~duplicate
    size = int(studies.max(initial=-1)) + 1
    originals = np.bincount(studies[original], minlength=size)
    kept_originals = np.bincount(studies[original & kept], minlength=size)
    copies = known & duplicate
    copies[copies] = originals[studies[copies]] == 1
    if not copies.any():
        return None
    both = kept[copies] & (kept_originals[studies[copies]] == 1)
    return Duplicates(share_of(both, studies[copies]), float(kept.mean() ** 2 * len(both)))

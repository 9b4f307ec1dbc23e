"""How often every pair is seen in a pass, so that rare findings are seen more often than their share of the films.

Sources: repeat factor sampling (Gupta et al., LVIS, arXiv 1908.03195), whose exponent is 0.5, and the balancing of
concepts in captions (Xu et al., MetaCLIP, arXiv 2309.16671). Other than there, a pass stays as long as it was: what
rare findings are seen more often, common ones and films without any are seen less often, in every pass others of them.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from train.selection.knowledge import CONCEPT_NAMES

#: How often a pair may be seen in a pass at most. A finding with one film would else be shown hundreds of times, and
#: learnt by heart.
MOST_VISITS = 8.0


def visit_rates(concepts: Tensor, exponent: float, most: float = MOST_VISITS) -> np.ndarray:
    """How often each pair is to be seen in a pass on average: [N] float64 in (0, `most`] with mean 1.

    That of a pair is proportional to (1 / f)^exponent, where f is the share of the pairs that have the rarest of its
    concepts. With exponent 0 all pairs are seen once; with 1 all concepts that are the rarest of their pairs are seen
    equally often.

    Args:
        concepts: [N, C] bool; every pair has one at least.
        exponent: in [0, 1].
        most: at least 1.
    """
    counts = concepts.sum(dim=0).double()
    # The largest of the weights is that of the rarest concept. One column at a time: a corpus has millions of rows.
    weights = np.zeros(len(concepts))
    for concept, count in enumerate(counts.tolist()):
        if count:
            has = concepts[:, concept].numpy()
            weights[has] = np.maximum(weights[has], (len(concepts) / count) ** exponent)
    if not weights.all():
        raise ValueError("a pair without any concept cannot be weighed: give it one of its own, such as none")
    return _with_mean_one(weights, most)


def _with_mean_one(weights: np.ndarray, most: float) -> np.ndarray:
    """`weights` times one factor, and cut at `most`, so that their mean is 1."""
    capped = np.zeros(len(weights), dtype=bool)
    while True:
        # What the capped ones leave is for the others, of which some may then come to the cap.
        factor = (len(weights) - most * capped.sum()) / max(weights[~capped].sum(), 1e-300)
        above = ~capped & (weights * factor > most)
        if not above.any():
            return np.where(capped, most, weights * factor)
        capped |= above


def draw_pass(rates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random pass over N pairs: N positions, of which each stands there as often as its rate, rounded up or down.

    The copies of a pair are spread evenly over the pass, so that they hardly ever meet in a batch, where each would be
    taken for a negative of the other.

    Args:
        rates: [N] of `visit_rates`.
    """
    count = len(rates)
    order = rng.permutation(count)
    # Systematic sampling: a pair is taken as often as a comb with teeth 1 apart hits its piece of [0, N).
    ends = np.floor(np.cumsum(rates[order]) + rng.random())
    # Their sum is N, which rounding in floating point must not change.
    ends[-1] = count
    visits = np.diff(ends, prepend=0.0).astype(np.int64)
    copies = np.repeat(np.arange(count), visits)
    number = np.arange(count) - np.repeat(np.cumsum(visits) - visits, visits)
    place = (number + rng.random(count)[copies]) / visits[copies]
    return order[copies][place.argsort(kind="stable")]


def describe_balance(concepts: Tensor, exponent: float) -> str:
    """A sentence on what a pass over all pairs of `concepts` [N, len(CONCEPT_NAMES)] sees how often.

    Raises:
        ValueError: no pair has a concept but "none", so that there is nothing to balance.
    """
    counts, rates = concepts.sum(dim=0), visit_rates(concepts, exponent)
    if not counts[:-1].any():
        raise ValueError(
            f"balance_findings {exponent} does nothing: neither the reports (in English) nor the labels of these "
            "pairs name a finding that is there; leave it out"
        )
    rarest = int(counts[:-1].double().masked_fill(counts[:-1] == 0, float("inf")).argmin())
    words = [
        f"{name} ({count:,} of {len(concepts):,} pairs) {rates[concepts[:, column].numpy()].mean():.2g} times"
        for column, name in ((len(CONCEPT_NAMES) - 1, "without any finding"), (rarest, CONCEPT_NAMES[rarest]))
        if (count := int(counts[column]))
    ]
    return f"balance_findings {exponent:g}: a pass sees pairs {', those with '.join(words)}"

"""CABS: from every super-batch the pairs whose concepts are still wanted; no model scores them.

Source: CABS (CVPR 2026, arXiv 2511.20643), in its variant for diversity. There a tagger gives the concepts of every
image once; here they are the findings that the extractor reads from the report (`train.selection.knowledge`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from train.selection.outcome import Role, Selection
from train.selection.rule import Candidates, Constants, SelectionRule


def select_cabs(concepts: Tensor, keep_share: float, generator: torch.Generator | None = None) -> Selection:
    """Keep `keep_share` of the pairs, always the one with the largest gain next.

    The gain of a pair is the sum over its concepts c of (t - taken_c) / t + 1 / n_c, where n_c is how many of the
    super-batch have c, and t, the same for all, so many of each concept as fit into what is kept. A concept at its
    target counts 0. Ties, and the rest once nothing is wanted any more, go by chance.

    Args:
        concepts: [B, C] bool.
    """
    count = round(keep_share * len(concepts))
    # In a random order, so that argmax breaks ties by chance.
    order = torch.randperm(len(concepts), generator=generator)
    shuffled = concepts[order].double()
    frequency = shuffled.sum(dim=0)
    target = max(1.0, float(count * shuffled.sum() / len(concepts) / (frequency > 0).sum().clamp(min=1)))
    taken, free = torch.zeros_like(frequency), torch.ones(len(concepts), dtype=torch.bool)
    roles = torch.full((len(concepts),), int(Role.REDUNDANT), dtype=torch.int8)
    for _ in range(count):
        wanted = torch.where(taken < target, (target - taken) / target + 1 / frequency.clamp(min=1), 0.0)
        best = (shuffled @ wanted).masked_fill(~free, -1.0).argmax()
        free[best] = False
        taken += shuffled[best]
        roles[order[best]] = Role.CENTRAL
    return Selection(roles)


def _choose(pairs: Candidates, keep_share: float, generator, constants: Constants) -> Selection:
    return select_cabs(pairs.known["concepts"], keep_share, generator)


CABS = SelectionRule(
    name="cabs",
    words="CABS, pairs whose findings are still wanted in their super-batch",
    choose=_choose,
    scores=False,
    needs=("concepts",),
    note="CABS looks at the findings that reports name, and at no features.",
)

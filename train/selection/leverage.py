"""The tail whole, noise out, and the rest as broad as it can be: our own rule.

From every super-batch, in this order:

1. films that look broken are out (`train.selection.knowledge`, no model);
2. pairs that seem to be of different films with a probability above `leverage_wrong_above` are out, told by the
   mismatched pairs of the super-batch (`train.objectives.agreement`), so no share of wrong reports need be given: of
   6,000 synthetic pairs with 3, 20 and 50 % wrong ones a model of one plain pass over others drops 61, 76 and 97 % of
   these, and 0.4, 3 and 49 % of the right ones;
3. of each of `leverage_clusters` clusters of pair features the farthest `leverage_margin` are kept: rare findings;
4. what is left of the budget is filled greedily by leverage. With x the feature of a pair minus the mean of the
   super-batch, and A = r I + sum of x x' over the kept, the next is the pair with the largest x' A^-1 x, which adds
   most to log det A (greedy D-optimal design); A^-1 follows by rank-one updates (Sherman and Morrison).

Where more reports than `leverage_most_wrong` seem wrong, the model cannot tell reports apart, and 2 is left out. Such a
model needs a warm-up, or to start from one that can.

Cost: a forward pass for every pair of the curation pass, and nothing for prototypes; choosing is some B D^2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from train.objectives.agreement import MOST_WRONG, better_than_mismatched, seem_right
from train.selection.negcliploss import AgreementConstants
from train.selection.outcome import Role, Selection
from train.selection.prototypes import kmeans_prototypes, nearest_prototype
from train.selection.rule import Candidates, SelectionRule


@dataclass(frozen=True)
class LeverageConstants(AgreementConstants):
    """How much is dropped, how much is kept as tail, and how the rest is spread."""

    # Lower than for a loss, which needs all that is right: of a share of the pairs enough is left.
    leverage_wrong_above: float = field(
        default=0.33,
        metadata={
            "help": "Rule leverage: pairs whose film and report seem not to belong together with more than this "
            "probability are dropped."
        },
    )
    leverage_most_wrong: float = field(
        default=MOST_WRONG,
        metadata={
            "help": "Rule leverage: where more reports of a super-batch seem wrong than this share, the model cannot "
            "tell them apart, and none is dropped as wrong."
        },
    )
    leverage_margin: float = field(
        default=0.1, metadata={"help": "Rule leverage: share of each cluster, its farthest pairs, that is kept whole."}
    )
    leverage_clusters: int = field(
        default=6, metadata={"help": "Rule leverage: clusters of a super-batch whose margins are kept."}
    )
    leverage_ridge: float = field(
        default=0.03, metadata={"help": "Rule leverage: what the second moment of the kept starts from."}
    )

    def check(self, keep_share: float | None) -> None:
        super().check(keep_share)
        if not 0 < self.leverage_wrong_above <= 1:
            raise ValueError(f"leverage_wrong_above is {self.leverage_wrong_above}, it must lie in (0, 1]")
        for name in ("leverage_most_wrong", "leverage_margin"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must lie in [0, 1)")
        if self.leverage_clusters < 1:
            raise ValueError(f"leverage_clusters is {self.leverage_clusters}, it must be at least 1")
        if self.leverage_ridge <= 0:
            raise ValueError(f"leverage_ridge is {self.leverage_ridge}, it must be above 0")


_CANNOT_TELL = (
    "more than {:.0%} of the reports seem to be of other films (leverage_most_wrong), so the model cannot tell reports "
    "apart and none is dropped as wrong; if it stays so, give a longer warm-up (curation_warmup_share) or start from a "
    "model that knows such films"
)


def greedy_leverage(features: Tensor, start: Tensor, candidates: Tensor, count: int, ridge: float) -> Tensor:
    """Indices [count] among `candidates` that, one after the other, add most to log det of the kept's second moment.

    Args:
        features: [B, D], centred.
        start: [s] indices of what is kept already.
        candidates: [c] indices to choose from; all are returned where there are no more than `count`.
        ridge: r in A = r I + sum of x x' over the kept.
    """
    if count >= len(candidates):
        return candidates
    # The greedy choice is among near ties, so it is made in double precision.
    rows = features.double()
    kept = rows[start]
    moment = ridge * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device) + kept.T @ kept
    left = rows[candidates]
    # Of every candidate A^-1 x, and x' A^-1 x.
    solved = left @ torch.linalg.inv(moment)
    leverages = (solved * left).sum(dim=1)
    free, chosen = torch.ones(len(candidates), dtype=torch.bool, device=rows.device), []
    for _ in range(count):
        best = leverages.masked_fill(~free, -1.0).argmax()
        free[best] = False
        chosen.append(best)
        direction, denominator = solved[best].clone(), 1 + leverages[best]
        along = left @ direction
        leverages = leverages - along.square() / denominator
        solved = solved - torch.outer(along, direction) / denominator
    return candidates[torch.stack(chosen)] if chosen else candidates[:0]


def select_leverage(
    image_embeds: Tensor,
    text_embeds: Tensor,
    features: Tensor,
    sound: Tensor,
    keep_share: float,
    constants: LeverageConstants,
) -> Selection:
    """Keep `keep_share` of a super-batch of B pairs; see the module. Fewer are kept where fewer pass both gates.

    Args:
        image_embeds, text_embeds: [B, D] of unit norm.
        features: [B, 2 D] of unit norm.
        sound: [B] bool, films that do not look broken.
    """
    count, target = len(features), round(keep_share * len(features))
    roles = torch.full((count,), int(Role.REDUNDANT), dtype=torch.int8, device=features.device)
    roles[~sound] = Role.OUTLIER
    if not sound.any():
        return Selection(roles)
    # Of sound films alone: broken ones agree with nothing, which tells nothing of reports.
    images, texts = image_embeds[sound], text_embeds[sound]
    agreement = better_than_mismatched(images, texts, constants.agreement_scale)
    right, knows = seem_right(agreement, constants.leverage_wrong_above, constants.leverage_most_wrong)
    roles[sound.nonzero().squeeze(1)[~right]] = Role.OUTLIER
    candidates = (roles != Role.OUTLIER).nonzero().squeeze(1)
    number = min(constants.leverage_clusters, len(candidates))
    note = None if knows else _CANNOT_TELL.format(constants.leverage_most_wrong)
    if number == 0:
        return Selection(roles, note=note)
    clusters, distances = nearest_prototype(features, kmeans_prototypes(features[candidates], number))
    for cluster in range(number):
        members = candidates[clusters[candidates] == cluster]
        farthest = members[distances[members].argsort(descending=True, stable=True)]
        roles[farthest[: round(constants.leverage_margin * len(members))]] = Role.MARGIN
    margin = (roles == Role.MARGIN).nonzero().squeeze(1)
    if len(margin) > target:
        surplus = margin[distances[margin].argsort(stable=True)[: len(margin) - target]]
        roles[surplus] = Role.REDUNDANT
        margin = (roles == Role.MARGIN).nonzero().squeeze(1)
    rest = (roles == Role.REDUNDANT).nonzero().squeeze(1)
    centred = features - features.mean(dim=0)
    roles[greedy_leverage(centred, margin, rest, target - len(margin), constants.leverage_ridge)] = Role.CENTRAL
    return Selection(roles, clusters, distances, note)


def _choose(pairs: Candidates, keep_share: float, generator, constants: LeverageConstants) -> Selection:
    sound = pairs.known["sound"].to(pairs.image_embeds.device)
    return select_leverage(pairs.image_embeds, pairs.text_embeds, pairs.features, sound, keep_share, constants)


LEVERAGE = SelectionRule(
    name="leverage",
    words="broken films and wrong reports out, margins of clusters kept, the rest by leverage",
    choose=_choose,
    needs=("sound",),
    constants=LeverageConstants,
    roles={
        Role.CENTRAL: "kept: leverage",
        Role.REDUNDANT: "dropped: redundant",
        Role.MARGIN: "kept: margin",
        Role.OUTLIER: "dropped: broken, or no better than mismatched",
    },
    note="Clusters are those of each super-batch, by a k-means of its own, so their numbers mean nothing across them. "
    "Where more reports of a super-batch than leverage_most_wrong seem wrong, the model cannot tell them "
    "apart, and none is dropped as mismatched: it needs a longer warm-up (curation_warmup_share), or another start.",
)

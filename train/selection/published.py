"""The two published rules of prototype-driven online curation: pure functions on tensors, and their records.

Source: CheXficient, arXiv 2602.22843, and its published code, which has two rules. A pair's feature is the
concatenation of its image and text embedding, normalised again; K prototypes live in the same space, and a pair
belongs to its nearest one. Both rules keep the pairs at the margin of a cluster, drop those far outside it as
outliers, and thin out the crowd near its centre by farthest-point sampling.

The published rules keep a share that depends on the size of the super-batch. Here `keep_share` fixes that share,
and what is kept near the centres is derived from it; `keep_share=None` gives the published constants.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from train.selection.outcome import Role, Selection
from train.selection.prototypes import nearest_prototype
from train.selection.rule import Candidates, Constants, SelectionRule


@dataclass(frozen=True)
class QuantileConstants(Constants):
    """Quantiles of the distances in a cluster; the defaults are those of the first public version.

    Args:
        support_quantile, outlier_quantile: pairs between them are all kept, those beyond the second all dropped.
    """

    support_quantile: float = field(
        default=0.85, metadata={"help": "Rule quantile: pairs between this and the next are all kept."}
    )
    outlier_quantile: float = field(
        default=0.95, metadata={"help": "Rule quantile: pairs farther than this are dropped."}
    )

    def check(self, keep_share: float | None) -> None:
        support, outlier = self.support_quantile, self.outlier_quantile
        if not 0 < support <= outlier <= 1:
            raise ValueError(f"support_quantile {support} and outlier_quantile {outlier} must rise within (0, 1]")
        if keep_share is not None and keep_share > outlier:
            raise ValueError(
                f"keep_share is {keep_share}, but rule quantile drops the farthest {1 - outlier:.0%} as outliers: "
                "ask for less, or for selection none"
            )


def farthest_point_sampling(points: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Indices [count] of points that cover `points` [N, D] (unit norm): a random one, then always the farthest.

    Nothing is sampled from `generator` where all or none are wanted, as in the published code.
    """
    if count >= len(points):
        return torch.arange(len(points), device=points.device)
    if count <= 0:
        return torch.empty(0, dtype=torch.long, device=points.device)
    # On unit vectors the farthest point is the one least similar to its most similar chosen point.
    similarity = points @ points.T
    chosen = torch.randint(0, len(points), (1,), generator=generator).to(points.device)
    indices = [chosen]
    nearest = similarity.index_select(0, chosen)[0].clone()
    for _ in range(count - 1):
        nearest[indices[-1]] = torch.inf
        indices.append(nearest.argmin().unsqueeze(0))
        # index_select: an index on the device, so that nothing waits for it.
        nearest = torch.maximum(nearest, similarity.index_select(0, indices[-1])[0])
    return torch.cat(indices)


def share_out(budget: int, capacities: list[int], weights: list[int]) -> list[int]:
    """Integers that sum to `min(budget, sum(capacities))`, in proportion to `weights`, none above its capacity."""
    shares = [0] * len(capacities)
    left = min(budget, sum(capacities))
    while left > 0:
        open_ = [i for i in range(len(shares)) if shares[i] < capacities[i]]
        total = sum(weights[i] for i in open_)
        wanted = {i: left * weights[i] / total for i in open_}
        for i in open_:
            shares[i] += min(int(wanted[i]), capacities[i] - shares[i])
        if all(int(wanted[i]) == 0 for i in open_):
            # Less than one each: the largest remainders get the last ones.
            for i in sorted(open_, key=lambda i: -wanted[i])[:left]:
                shares[i] += 1
        left = min(budget, sum(capacities)) - sum(shares)
    return shares


def _keep(roles: Tensor, features: Tensor, members: Tensor, count: int, role: Role, generator) -> None:
    """Give `role` to `count` of the pairs `members` [n] (indices), chosen by farthest-point sampling."""
    roles[members[farthest_point_sampling(features[members], count, generator)]] = role


def _thin_margin(roles: Tensor, features: Tensor, clusters: Tensor, target: int, generator) -> None:
    """Where the margins alone exceed `target`, keep that many of them, each cluster in proportion."""
    margins = [((roles == Role.MARGIN) & (clusters == k)).nonzero().squeeze(1) for k in clusters.unique()]
    sizes = [len(margin) for margin in margins]
    roles[roles == Role.MARGIN] = Role.REDUNDANT
    for margin, count in zip(margins, share_out(target, sizes, sizes), strict=True):
        _keep(roles, features, margin, count, Role.MARGIN, generator)


def select_quantile(
    features: Tensor,
    prototypes: Tensor,
    keep_share: float | None,
    generator: torch.Generator | None = None,
    support_quantile: float = QuantileConstants.support_quantile,
    outlier_quantile: float = QuantileConstants.outlier_quantile,
    central_per_cluster: int = 10,
) -> Selection:
    """Rule `quantile` (first public version of the code).

    Per cluster: beyond the `outlier_quantile` of the distances dropped, between the two quantiles all kept, below
    at most `central_per_cluster` kept (or, with `keep_share`, an equal number for all clusters that meets it).

    Args:
        features: [B, D], unit norm.
        prototypes: [K, D], unit norm.
        keep_share: share of the super-batch to keep, or None for the published constants.
    """
    clusters, distances = nearest_prototype(features, prototypes)
    roles = torch.zeros(len(features), dtype=torch.int8, device=features.device)
    centrals = []
    for k in range(len(prototypes)):
        members = (clusters == k).nonzero().squeeze(1)
        if len(members) == 0:
            continue
        distance = distances[members]
        support, outlier = distance.quantile(torch.tensor([support_quantile, outlier_quantile]).to(distance))
        roles[members[distance > outlier]] = Role.OUTLIER
        roles[members[(distance > support) & (distance <= outlier)]] = Role.MARGIN
        centrals.append(members[distance <= support])
    sizes = [len(central) for central in centrals]
    if keep_share is None:
        budgets = [min(central_per_cluster, size) for size in sizes]
    else:
        target = round(keep_share * len(features))
        kept = int((roles == Role.MARGIN).sum())
        if kept > target:
            _thin_margin(roles, features, clusters, target, generator)
        budgets = share_out(max(target - kept, 0), sizes, [1] * len(sizes))
    for central, budget in zip(centrals, budgets, strict=True):
        _keep(roles, features, central, budget, Role.CENTRAL, generator)
    return Selection(roles, clusters, distances)


def _sigma_counts(budget: int, num_central: int, num_periphery: int) -> tuple[int, int]:
    """Split a cluster's budget in proportion to the square roots of what is there, capped by what is there."""
    if num_central == 0 or num_periphery == 0:
        return min(budget, num_central), min(budget, num_periphery)
    central = round(budget * num_central**0.5 / (num_central**0.5 + num_periphery**0.5))
    return min(central, num_central), min(budget - central, num_periphery)


def select_sigma(
    features: Tensor,
    prototypes: Tensor,
    keep_share: float | None,
    generator: torch.Generator | None = None,
    published_ratio: float = 0.2,
) -> Selection:
    """Rule `sigma` (second public version of the code).

    Per cluster with mean m and standard deviation s of its distances: from m + 3s dropped, from m + 2s all kept
    (tail), the rest gets a budget, split between central (<= m + s) and periphery. With `keep_share=None` the
    budget is `published_ratio` of its rest, so that the tail comes on top; otherwise tail and budgets meet
    `keep_share` together. Shapes as in `select_quantile`.

    A cluster whose distances are all equal (one pair, or copies of one) has no outliers; the published code drops
    it whole, since m + 3s = m.
    """
    clusters, distances = nearest_prototype(features, prototypes)
    roles = torch.zeros(len(features), dtype=torch.int8, device=features.device)
    centrals, peripheries = [], []
    for k in range(len(prototypes)):
        members = (clusters == k).nonzero().squeeze(1)
        if len(members) == 0:
            continue
        distance = distances[members]
        mean, std = distance.mean(), distance.std(correction=0)
        spread = std > 1e-6
        roles[members[spread & (distance >= mean + 3 * std)]] = Role.OUTLIER
        roles[members[spread & (distance >= mean + 2 * std) & (distance < mean + 3 * std)]] = Role.MARGIN
        periphery = spread & (distance > mean + std) & (distance < mean + 2 * std)
        centrals.append(members[~spread | (distance <= mean + std)])
        peripheries.append(members[periphery])
    sizes = [len(central) + len(periphery) for central, periphery in zip(centrals, peripheries, strict=True)]
    if keep_share is None:
        budgets = [max(1, int(size * published_ratio)) for size in sizes]
    else:
        target = round(keep_share * len(features))
        kept = int((roles == Role.MARGIN).sum())
        if kept > target:
            _thin_margin(roles, features, clusters, target, generator)
        budgets = share_out(max(target - kept, 0), sizes, sizes)
    for central, periphery, budget in zip(centrals, peripheries, budgets, strict=True):
        num_central, num_periphery = _sigma_counts(budget, len(central), len(periphery))
        if keep_share is not None:
            # What one side cannot give, the other does: the share asked for is the promise here.
            num_central = max(num_central, budget - len(periphery))
            num_periphery = budget - num_central
        _keep(roles, features, central, num_central, Role.CENTRAL, generator)
        _keep(roles, features, periphery, num_periphery, Role.PERIPHERY, generator)
    return Selection(roles, clusters, distances)


def _choose_quantile(pairs: Candidates, keep_share, generator, constants: QuantileConstants) -> Selection:
    quantiles = constants.support_quantile, constants.outlier_quantile
    return select_quantile(pairs.features, pairs.prototypes, keep_share, generator, *quantiles)


def _choose_sigma(pairs: Candidates, keep_share, generator, constants: Constants) -> Selection:
    return select_sigma(pairs.features, pairs.prototypes, keep_share, generator)


_DROPPED, _CENTRAL = {Role.REDUNDANT: "dropped: redundant"}, {Role.CENTRAL: "kept: central"}
_FAR = {Role.MARGIN: "kept: margin", Role.OUTLIER: "dropped: outlier"}

QUANTILE = SelectionRule(
    name="quantile",
    words="of each cluster of pairs the margin is kept whole, the crowded centre thinned, the farthest dropped",
    choose=_choose_quantile,
    uses_prototypes=True,
    has_published_constants=True,
    constants=QuantileConstants,
    roles=_DROPPED | _CENTRAL | _FAR,
)
SIGMA = SelectionRule(
    name="sigma",
    words="of each cluster of pairs the tail is kept whole, the rest thinned, the farthest dropped",
    choose=_choose_sigma,
    uses_prototypes=True,
    has_published_constants=True,
    roles=_DROPPED | _CENTRAL | {Role.PERIPHERY: "kept: periphery"} | _FAR,
)

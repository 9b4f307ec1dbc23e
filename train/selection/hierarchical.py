"""Balanced clusters: k-means on the centres of k-means, and the budget shared out equally down the tree.

Source: automatic data curation by hierarchical k-means (Vo et al., arXiv 2405.15613), the way the data of DINOv2 and
DINOv3 were chosen, here on the features of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from train.selection.baselines import cluster_features
from train.selection.outcome import Role, Selection
from train.selection.published import share_out
from train.selection.rule import Candidates, Constants, SelectionRule, When


@dataclass(frozen=True)
class HierarchyConstants(Constants):
    """The shape of the tree."""

    hierarchy_cluster_size: int = field(
        default=32, metadata={"help": "Selection hierarchical_kmeans: pairs a cluster of the lowest level, on average."}
    )
    hierarchy_levels: int = field(default=3, metadata={"help": "Selection hierarchical_kmeans: levels of clusters."})

    def check(self, keep_share: float | None) -> None:
        for name in self.names():
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")


def build_tree(features: Tensor, cluster_size: int, levels: int, seed: int) -> list[Tensor]:
    """For each level, lowest first, the cluster of every pair (first level) or of every cluster of the level below.

    Each level has `cluster_size` times fewer clusters than the lowest has pairs, and then than the one below.

    Args:
        features: [N, D], on the CPU.
    """
    tree, points = [], features.float()
    for _ in range(levels):
        clusters, _ = cluster_features(points, max(1, len(points) // cluster_size), seed)
        # Without the empty ones, which k-means may leave.
        clusters = clusters.unique(return_inverse=True)[1]
        tree.append(clusters)
        sums = torch.zeros(int(clusters.max()) + 1, points.shape[1]).index_add_(0, clusters, points)
        points = sums / clusters.bincount().unsqueeze(1)
    return tree


def share_down(tree: list[Tensor], budget: int) -> Tensor:
    """How many pairs each cluster of the lowest level may keep: the budget in equal parts over the highest clusters,
    each part in equal parts over what is below it, and what a cluster cannot take over the others beside it.
    """
    sizes = [tree[0].bincount()]
    for level in tree[1:]:
        sizes.append(torch.zeros(int(level.max()) + 1, dtype=torch.long).index_add_(0, level, sizes[-1]))
    shares = torch.tensor(share_out(budget, sizes[-1].tolist(), [1] * len(sizes[-1])))
    for level, below in zip(reversed(tree[1:]), reversed(sizes[:-1]), strict=True):
        own = torch.zeros_like(below)
        for cluster, share in enumerate(shares.tolist()):
            members = (level == cluster).nonzero().squeeze(1)
            own[members] = torch.tensor(share_out(share, below[members].tolist(), [1] * len(members)))
        shares = own
    return shares


def select_hierarchical(
    features: Tensor, keep_share: float, generator: torch.Generator, cluster_size: int, levels: int
) -> Selection:
    """Keep `keep_share` of the corpus, in each cluster of the lowest level as many as its share, by chance.

    Args:
        features: [N, 2 D] of unit norm, on the CPU.
    """
    tree = build_tree(features, cluster_size, levels, generator.initial_seed())
    shares = share_down(tree, round(keep_share * len(features)))
    order = torch.randperm(len(features), generator=generator)
    # In a random order by cluster; the place of a pair within its cluster.
    order = order[tree[0][order].argsort(stable=True)]
    starts = tree[0].bincount().cumsum(0) - tree[0].bincount()
    place = torch.empty(len(features), dtype=torch.long)
    place[order] = torch.arange(len(features)) - starts[tree[0][order]]
    roles = torch.where(place < shares[tree[0]], int(Role.CENTRAL), int(Role.REDUNDANT)).to(torch.int8)
    # The state of a run holds clusters in 16 bits: those of the highest level.
    clusters = tree[0]
    for level in tree[1:]:
        clusters = level[clusters]
    return Selection(roles, clusters)


def _choose(pairs: Candidates, keep_share: float, generator, constants: HierarchyConstants) -> Selection:
    return select_hierarchical(
        pairs.features, keep_share, generator, constants.hierarchy_cluster_size, constants.hierarchy_levels
    )


HIERARCHICAL_KMEANS = SelectionRule(
    name="hierarchical_kmeans",
    words="hierarchical k-means, equally from clusters of clusters",
    choose=_choose,
    when=When.OFFLINE,
    constants=HierarchyConstants,
    note="Hierarchical k-means clusters the corpus once; within a cluster chance decides.",
)

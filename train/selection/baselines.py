"""What online curation is compared with: all pairs, random choices, and offline removal of near-duplicates.

Source of the last: SemDeDup (Abbas et al., arXiv 2303.09540), on the features of pairs: k-means clusters the corpus,
and within a cluster a pair is dropped if it is too similar to one that is kept. The published threshold on the
similarity is set here by the share to keep, and of two near-duplicates the one farther from the centre stays, as
published.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from train.selection.outcome import Role, Selection
from train.selection.rule import Candidates, Constants, SelectionRule, When


def select_random(count: int, keep_share: float, generator: torch.Generator | None = None) -> Selection:
    """The baseline every curation must beat: a random `keep_share` of `count` pairs."""
    roles = torch.zeros(count, dtype=torch.int8)
    roles[torch.randperm(count, generator=generator)[: round(keep_share * count)]] = Role.CENTRAL
    return Selection(roles)


@dataclass(frozen=True)
class SemdedupConstants(Constants):
    """The size of a cluster, in pairs."""

    semdedup_cluster_size: int = field(
        default=256, metadata={"help": "Selection semdedup: pairs a cluster on average, among which it compares."}
    )

    def check(self, keep_share: float | None) -> None:
        if self.semdedup_cluster_size < 1:
            raise ValueError(f"semdedup_cluster_size is {self.semdedup_cluster_size}, it must be at least 1")


def cluster_features(features: Tensor, num_clusters: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cluster [N] of `features` [N, D] (on the CPU), and the distance [N] to its centre, by mini-batch k-means."""
    # Here, since the help of training lists all rules: sklearn takes a second to import.
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(num_clusters, batch_size=max(1024, 2 * num_clusters), n_init=1, random_state=seed)
    values = features.float().numpy()
    clusters = torch.from_numpy(kmeans.fit_predict(values)).long()
    centres = torch.from_numpy(kmeans.cluster_centers_)
    return clusters, (features.float() - centres[clusters].float()).norm(dim=1)


def duplicate_similarity(features: Tensor, block_size: int = 2048) -> Tensor:
    """Largest cosine [n] of each of `features` [n, D] (unit norm) with an earlier one; -1 for the first.

    In blocks, so that memory grows with n and not with its square.
    """
    similarity = torch.full((len(features),), -1.0)
    for start in range(0, len(features), block_size):
        block = features[start : start + block_size].float()
        cosines = block @ features[: start + len(block)].float().T
        earlier = torch.arange(start + len(block)) < torch.arange(start, start + len(block)).unsqueeze(1)
        similarity[start : start + len(block)] = cosines.masked_fill(~earlier, -1.0).amax(dim=1)
    return similarity


def select_semdedup(features: Tensor, keep_share: float, num_clusters: int, seed: int) -> Selection:
    """Keep `keep_share` of the corpus: the pairs least similar to a pair of their cluster that goes before them.

    Within a cluster the order is by falling distance from the centre. Dropped pairs are `Role.REDUNDANT`.

    Args:
        features: [N, D] of unit norm, on the CPU.
    """
    clusters, distances = cluster_features(features, min(num_clusters, len(features)), seed)
    similarity = torch.empty(len(features))
    for cluster in clusters.unique():
        members = (clusters == cluster).nonzero().squeeze(1)
        members = members[distances[members].argsort(descending=True, stable=True)]
        similarity[members] = duplicate_similarity(features[members])
    roles = torch.full((len(features),), int(Role.REDUNDANT), dtype=torch.int8)
    roles[similarity.argsort(stable=True)[: round(keep_share * len(features))]] = Role.CENTRAL
    return Selection(roles, clusters, distances)


def _choose_random(pairs: Candidates, keep_share: float, generator, constants: Constants) -> Selection:
    return select_random(len(pairs), keep_share, generator)


def select_gated(passed: Tensor, keep_share: float, generator: torch.Generator | None = None) -> Selection:
    """Of the pairs that `passed` a gate, bool [B], as many as `keep_share` of all by chance, or all of them."""
    rows = passed.cpu().nonzero().squeeze(1)
    roles = torch.full((len(passed),), int(Role.OUTLIER), dtype=torch.int8)
    roles[rows] = Role.REDUNDANT
    order = torch.randperm(len(rows), generator=generator)
    roles[rows[order[: round(keep_share * len(passed))]]] = Role.CENTRAL
    return Selection(roles)


def _choose_gated_random(pairs: Candidates, keep_share: float, generator, constants: Constants) -> Selection:
    return select_gated(pairs.known["sound"], keep_share, generator)


def _choose_flawless(pairs: Candidates, keep_share: float, generator, constants: Constants) -> Selection:
    return select_gated(pairs.known["no_defect"], keep_share, generator)


def _choose_semdedup(pairs: Candidates, keep_share: float, generator, constants: SemdedupConstants) -> Selection:
    clusters = -(-len(pairs) // constants.semdedup_cluster_size)
    # In half precision, of which several copies of a corpus fit into memory.
    return select_semdedup(pairs.features.half(), keep_share, clusters, generator.initial_seed())


RANDOM = SelectionRule(
    name="random",
    words="by chance, the baseline",
    choose=_choose_random,
    scores=False,
    roles={Role.CENTRAL: "kept", Role.REDUNDANT: "dropped"},
    note="A random choice looks at no features: all differences on this page are chance.",
)
GATED_RANDOM = SelectionRule(
    name="gated_random",
    words="by chance among the films that do not look broken",
    when=When.BEFORE,
    choose=_choose_gated_random,
    scores=False,
    needs=("sound",),
    roles={Role.CENTRAL: "kept", Role.REDUNDANT: "dropped", Role.OUTLIER: "dropped: film looks broken"},
    note="It shows what leaving broken films out is worth, without any choice among the others.",
)
FLAWLESS = SelectionRule(
    name="flawless",
    words="by chance among the pairs without a defect that the corpus knows of",
    when=When.BEFORE,
    choose=_choose_flawless,
    scores=False,
    needs=("no_defect",),
    roles={Role.CENTRAL: "kept", Role.REDUNDANT: "dropped", Role.OUTLIER: "dropped: known defect"},
    note="It shows what a perfect gate is worth: a synthetic corpus knows its wrong reports and broken films. Of real "
    "data, whose defects nobody wrote down, it is a random choice.",
)
SEMDEDUP = SelectionRule(
    name="semdedup",
    words="SemDeDup, near-duplicates within clusters removed",
    choose=_choose_semdedup,
    when=When.OFFLINE,
    constants=SemdedupConstants,
    note="SemDeDup clusters the corpus once.",
)
NONE = SelectionRule(
    name="none", words="all pairs are trained on", choose=None, when=When.NEVER, scores=False, roles={}
)

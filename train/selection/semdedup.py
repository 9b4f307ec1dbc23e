"""Offline removal of near-duplicates on cached features, the rival of online curation.

Source: SemDeDup (Abbas et al., arXiv 2303.09540), on the features of pairs: k-means clusters the corpus, and within a
cluster a pair is dropped if it is too similar to one that is kept. The published threshold on the similarity is set
here by the share to keep, and of two near-duplicates the one farther from the centre stays, as published.
"""

from __future__ import annotations

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from train.selection.outcome import Role, Selection


def cluster_features(features: Tensor, num_clusters: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cluster [N] of `features` [N, D] (on the CPU), and the distance [N] to its centre, by mini-batch k-means."""
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

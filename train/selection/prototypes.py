"""Prototypes of the feature space: how they start, move, and collapse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: Prototypes whose usage has less entropy than this (in [0, 1]) have collapsed.
COLLAPSED_ENTROPY = 0.3


def nearest_prototype(features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
    """Index [B] of, and Euclidean distance [B] to, the nearest of `prototypes` [K, D] for `features` [B, D]."""
    distances, clusters = torch.cdist(features, prototypes).min(dim=1)
    return clusters, distances


def kmeans_prototypes(features: Tensor, num_prototypes: int, iterations: int = 20, seed: int = 42) -> Tensor:
    """K-means centres [K, D] of `features` [B, D], normalised to unit length (20 iterations, seed 42 as published).

    Raises:
        ValueError: if there are fewer features than prototypes.
    """
    if len(features) < num_prototypes:
        raise ValueError(
            f"num_prototypes is {num_prototypes} but k-means was given {len(features)} pairs: "
            "lower --num_prototypes or raise --super_batch_size"
        )
    # Here, since the help of training lists all rules: sklearn takes a second to import.
    from sklearn.cluster import KMeans

    kmeans = KMeans(num_prototypes, n_init=1, max_iter=iterations, random_state=seed)
    centres = kmeans.fit(features.cpu().float().numpy()).cluster_centers_
    return F.normalize(torch.from_numpy(centres).to(features), dim=-1)


def usage_entropy(usage: Tensor) -> float:
    """Entropy of `usage` [K] in [0, 1]: 1 if all prototypes receive equally, 0 if one receives everything."""
    shares = usage.double() / usage.sum().clamp(min=1)
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
    return float(entropy / torch.tensor(float(len(usage))).log()) if len(usage) > 1 else 1.0


def mean_pairwise_cosine(prototypes: Tensor) -> float:
    """Mean cosine between two of `prototypes` [K, D] of unit norm; near 1 they have collapsed into one."""
    count = len(prototypes)
    if count < 2:
        return 0.0
    total = (prototypes @ prototypes.T).sum() - count
    return float(total / (count * (count - 1)))


def collapsed_cosine(start: float, remaining: float = 0.25) -> float:
    """The mean pairwise cosine from which prototypes that started at the cosine `start` count as collapsed.

    A quarter of the spread they started with is left there. No fixed limit would do: the features of a young model lie
    close together, and so do its prototypes.
    """
    return 1 - remaining * (1 - start)


def have_collapsed(entropy: float, cosine: float, start: float) -> bool:
    """Whether prototypes of this `usage_entropy` and `mean_pairwise_cosine` have, from the cosine `start` on."""
    return cosine > collapsed_cosine(start) or entropy < COLLAPSED_ENTROPY


def sinkhorn_assign(features: Tensor, prototypes: Tensor, temperature: float = 0.5, iterations: int = 3) -> Tensor:
    """Balanced assignment [B] (index of a prototype) of `features` [B, D] by Sinkhorn-Knopp iterations."""
    scores = torch.exp(features @ prototypes.T / temperature).T
    scores = scores / scores.sum()
    num_prototypes, num_features = scores.shape
    for _ in range(iterations):
        scores = scores / scores.sum(dim=1, keepdim=True) / num_prototypes
        scores = scores / scores.sum(dim=0, keepdim=True) / num_features
    return scores.argmax(dim=0)


def update_prototypes(
    features: Tensor, prototypes: Tensor, momentum: float = 0.9, temperature: float = 0.5, iterations: int = 3
) -> tuple[Tensor, Tensor]:
    """Move `prototypes` [K, D] towards the kept `features` [B, D] assigned to them.

    p <- momentum p + (1 - momentum) mean of the assigned, then unit norm. One that received nothing keeps its
    direction (it shrinks to `momentum` of itself and is normalised again).

    Returns:
        the new prototypes [K, D] and how many features each received [K].
    """
    assigned = sinkhorn_assign(features, prototypes, temperature, iterations)
    one_hot = F.one_hot(assigned, len(prototypes)).to(features)
    usage = one_hot.sum(dim=0)
    means = one_hot.T @ features / (usage.unsqueeze(1) + 1e-8)
    return F.normalize(momentum * prototypes + (1 - momentum) * means, dim=-1), usage

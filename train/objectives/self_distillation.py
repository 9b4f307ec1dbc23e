"""The self-distillation objective of DINOv2 (arXiv 2304.07193): DINO on CLS, iBOT on masked patches, KoLeo.

Functions on tensors. Over several processes each is exact: centres and Sinkhorn-Knopp use sums over all of them, KoLeo
looks for neighbours among the films of all, and the mean of the losses over processes, which is what DDP takes of the
gradients, is the loss of the whole batch.

Order of rows: the crops of view 1 of all B films, then those of view 2 (and so on for local crops).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from train.runs.distributed import gather_rows, world_size

#: How targets are kept from collapsing: a running centre under a softmax, or equal shares of all prototypes.
CENTRINGS = ("centering", "sinkhorn_knopp")
_SINKHORN_ITERATIONS = 3


def softmax_targets(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Targets [n, K] of the teacher's `logits` [n, K] by a running `center` [K]."""
    return torch.softmax((logits.float() - center) / temperature, dim=-1)


def updated_center(center: Tensor, logits: Tensor, momentum: float = 0.9) -> Tensor:
    """The running mean [K] of the teacher's logits, after those [n, K] of all processes; n may be zero here."""
    sums = torch.cat([logits.float().sum(0), logits.new_tensor([len(logits)], dtype=torch.float32)])
    total = _sum(sums)
    mean = total[:-1] / total[-1].clamp(min=1)
    return torch.where(total[-1] > 0, center * momentum + mean * (1 - momentum), center)


def sinkhorn_targets(logits: Tensor, temperature: float) -> Tensor:
    """Targets [n, K] that use all prototypes equally over the rows of all processes; n may be zero here."""
    scaled = logits.float() / temperature
    # A common factor does not change the result; without it large logits overflow.
    highest = scaled.max() if len(scaled) else scaled.new_full((), -torch.inf)
    if world_size() > 1:
        dist.all_reduce(highest, dist.ReduceOp.MAX)
    shares = torch.exp(scaled - highest)
    count = _sum(shares.new_tensor(float(len(shares))))
    shares = shares / _sum(shares.sum())
    prototypes = shares.shape[1]
    for _ in range(_SINKHORN_ITERATIONS):
        shares = shares / _sum(shares.sum(0)) / prototypes
        shares = shares / shares.sum(1, keepdim=True) / count
    return shares * count


def dino_loss(student: Tensor, targets: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross entropy of every crop of the student with every view of the teacher, summed over both.

    Args:
        student: logits [crops, B, K].
        targets: [views, B, K], each sums to 1.
    """
    log_probabilities = F.log_softmax(student.float() / temperature, dim=-1)
    # The sum over pairs of crop and view is that of two sums.
    return -(log_probabilities.sum(0) * targets.sum(0)).sum(-1).mean()


def ibot_loss(student: Tensor, targets: Tensor, weights: Tensor, images: int, temperature: float = 0.1) -> Tensor:
    """Cross entropy of masked patches, a mean over `images` (masked or not) of the mean over the patches of each.

    Args:
        student, targets: logits and probabilities [masked patches, K].
        weights: [masked patches], one over the number of masked patches of the patch's image.
        images: of this process.
    """
    log_probabilities = F.log_softmax(student.float() / temperature, dim=-1)
    return -((log_probabilities * targets).sum(-1) * weights).sum() / images


def koleo_loss(features: Tensor) -> Tensor:
    """Minus the mean logarithm of the distance to the nearest neighbour: spreads features over the sphere.

    The published code looks for it among the films of one process.

    Args:
        features: [n, D] of different films; n is equal on all processes.
    """
    normed = F.normalize(gather_rows(features.float()), eps=1e-8, dim=-1)
    with torch.no_grad():
        nearest = (normed @ normed.T).fill_diagonal_(-1).argmax(1)
    distances = F.pairwise_distance(normed, normed[nearest], p=2, eps=1e-8)
    return -torch.log(distances + 1e-8).mean()


@dataclass(frozen=True)
class Weights:
    """How much each term counts; published values."""

    dino: float = 1.0
    ibot: float = 1.0
    koleo: float = 0.1


class Outputs(NamedTuple):
    """Of a network of tower and head.

    Args:
        cls: image features [2 B, D] of the global crops.
        global_logits: [2 B, K].
        local_logits: [crops B, K]; None where there are no local crops.
        patch_logits: [masked patches, K]; None without iBOT.
    """

    cls: Tensor
    global_logits: Tensor
    local_logits: Tensor | None
    patch_logits: Tensor | None


class Targets(NamedTuple):
    """Of the teacher: `cls` [2, B, K], its two views swapped, and `patches` [masked patches, K] or None."""

    cls: Tensor
    patches: Tensor | None


def swap_views(rows: Tensor) -> Tensor:
    """Rows of view 2, then those of view 1: what view 1 and view 2 of the student are to predict."""
    first, second = rows.chunk(2)
    return torch.cat([second, first])


def loss_terms(
    student: Outputs, targets: Targets, weights: Weights, patch_weights: Tensor | None, temperature: float = 0.1
) -> dict[str, Tensor]:
    """The terms "local", "global", "koleo" (weighted) and "ibot" of the published code, and their weighted "total".

    Args:
        patch_weights: of `patch_weights`; None without iBOT.
    """
    _, films, prototypes = targets.cls.shape
    local_crops = 0 if student.local_logits is None else len(student.local_logits) // films
    # Every local crop meets two views, every global one the other view; without local crops the published code counts
    # one pair too many.
    pairs = 2 + max(2 * local_crops, 1)
    terms = {}
    if student.local_logits is not None:
        local = student.local_logits.view(local_crops, films, prototypes)
        terms["local"] = dino_loss(local, targets.cls, temperature) / pairs
    both = targets.cls.flatten(0, 1).unsqueeze(0)
    terms["global"] = 2 * dino_loss(student.global_logits.unsqueeze(0), both, temperature) / pairs
    total = weights.dino * (terms["global"] + terms.get("local", 0))
    if weights.koleo:
        # Not between two views of one film.
        spread = sum(koleo_loss(view) for view in student.cls.chunk(2))
        terms["koleo"] = weights.koleo * spread
        total = total + terms["koleo"]
    if weights.ibot:
        assert student.patch_logits is not None
        assert targets.patches is not None
        assert patch_weights is not None
        images = len(student.global_logits)
        terms["ibot"] = ibot_loss(student.patch_logits, targets.patches, patch_weights, images, temperature)
        total = total + weights.ibot * terms["ibot"]
    return terms | {"total": total}


def patch_weights(masks: Tensor) -> Tensor:
    """One over the number of masked patches of its image, for each masked patch of `masks` [images, patches]."""
    counts = masks.sum(-1).clamp(min=1)
    return (1 / counts).unsqueeze(-1).expand_as(masks)[masks]


def _sum(value: Tensor) -> Tensor:
    if world_size() > 1:
        dist.all_reduce(value)
    return value

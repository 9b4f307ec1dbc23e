"""The published objective: symmetric InfoNCE, correct over any number of processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from train.objectives.batch import PairBatch
from train.objectives.objective import Objective
from train.runs.distributed import gather_rows, rank, world_size

# Finite, so that rows which are masked themselves have no NaN gradient; exp(-10,000) is 0 in every float format.
MASKED = -1e4


def contrastive_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    logit_scale: Tensor,
    valid: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Symmetric InfoNCE loss over the pairs of all processes.

    Every process computes the rows of its own pairs against all pairs, scaled such that the mean over processes
    (which is what DDP takes of the gradients) is the loss of the whole batch.

    Args:
        image_embeds, text_embeds: [n, D] of unit norm; n is equal on all processes.
        logit_scale: scalar, the logarithm of the inverse temperature.
        valid: [n] bool; padding rows are False, and are neither positives nor negatives.
        weights: [n], how much each pair counts as a positive; as negatives all count alike.
    """
    count = len(image_embeds)
    if valid is None:
        valid = torch.ones(count, dtype=torch.bool)
    valid = valid.to(image_embeds.device)
    # The loss is computed in fp32 whatever the precision of the towers.
    image_embeds, text_embeds = image_embeds.float(), text_embeds.float()
    all_valid = gather_rows(valid.float()).detach() > 0
    scale = logit_scale.float().exp()
    logits_per_image = scale * image_embeds @ gather_rows(text_embeds).T
    logits_per_text = scale * text_embeds @ gather_rows(image_embeds).T
    positives = torch.arange(count, device=image_embeds.device) + rank() * count
    losses = sum(
        F.cross_entropy(logits.masked_fill(~all_valid, MASKED), positives, reduction="none")
        for logits in (logits_per_image, logits_per_text)
    )
    weights, total = weigh(valid, all_valid, weights)
    return (losses * weights).sum() / 2 * world_size() / total


def weigh(valid: Tensor, all_valid: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The weights [n] of this process's pairs, 0 where they are not valid, and their sum over all processes.

    Args:
        valid, all_valid: bool, [n] of this process and [N] of all.
        weights: [n]; None: all alike.
    """
    if weights is None:
        return valid.float(), all_valid.sum()
    weights = weights.to(valid.device) * valid
    # Of pairs that all count for nothing the loss is 0.
    return weights, gather_rows(weights).detach().sum().clamp(min=torch.finfo(torch.float32).tiny)


class ContrastiveObjective(Objective):
    """`contrastive_loss` at the temperature of the model (source: arXiv 2602.22843)."""

    def forward(self, model, image_embeds: Tensor, text_embeds: Tensor, batch: PairBatch) -> Tensor:
        return contrastive_loss(image_embeds, text_embeds, model.logit_scale, batch.valid, batch.weights)

"""Symmetric InfoNCE in which pairs of one text are positives of each other, and not negatives.

Source: UniCL (arXiv 2204.03610, equations 2 and 3) with the equality of texts in place of the equality of labels. Many
chest X-ray reports are the same sentences ("Normal chest radiograph."): the plain loss pushes a film away from the very
text that describes it, as it stands in another row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from train.objectives.batch import PairBatch
from train.objectives.contrastive import MASKED, weigh
from train.objectives.objective import Objective
from train.runs.distributed import gather_rows, gather_uneven, world_size


def multi_positive_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    logit_scale: Tensor,
    identities: Tensor,
    valid: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Bidirectional cross entropy against targets spread evenly over all positives of a row.

    For each of the two directions, -1/N sum_i 1/|P(i)| sum_{k in P(i)} log softmax_k(s u_i . v_k), where P(i) are the
    pairs of the same identity, i among them; half the sum of both. With identities all different it is
    `contrastive_loss`. As there, the mean over processes is the loss of the whole batch.

    Args:
        image_embeds, text_embeds: [n, D] of unit norm; n is equal on all processes.
        logit_scale: scalar, the logarithm of the inverse temperature.
        identities: [n] int64.
        valid: [n] bool; padding rows are False, and are neither positives nor negatives.
        weights: [n], how much each pair counts, as a positive of others, too; as negatives all count alike.
    """
    if valid is None:
        valid = torch.ones(len(image_embeds), dtype=torch.bool)
    valid, identities = valid.to(image_embeds.device), identities.to(image_embeds.device)
    image_embeds, text_embeds = image_embeds.float(), text_embeds.float()
    all_valid = gather_rows(valid.float()).detach() > 0
    positive = ((identities[:, None] == gather_uneven(identities)) & all_valid).float()
    if weights is not None:
        positive = positive * gather_rows(weights.to(positive.device)).detach()
    targets = positive / positive.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    scale = logit_scale.float().exp()
    losses = torch.zeros(len(image_embeds), device=image_embeds.device)
    for own, others in ((image_embeds, text_embeds), (text_embeds, image_embeds)):
        logits = (scale * own @ gather_rows(others).T).masked_fill(~all_valid, MASKED)
        losses = losses - (targets * logits.log_softmax(dim=1)).sum(dim=1)
    weights, total = weigh(valid, all_valid, weights)
    return (losses * weights).sum() / 2 * world_size() / total.clamp(min=torch.finfo(torch.float32).tiny)


class MultiPositiveObjective(Objective):
    """`multi_positive_loss` of texts that are equal to the text tower, at the temperature of the model."""

    takes_label_records = True

    def forward(self, model, image_embeds: Tensor, text_embeds: Tensor, batch: PairBatch) -> Tensor:
        return multi_positive_loss(
            image_embeds, text_embeds, model.logit_scale, batch.text_keys, batch.valid, batch.weights
        )

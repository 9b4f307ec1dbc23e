"""UniCL: reports and structured labels in one contrastive space (arXiv 2204.03610, equations 2 and 3).

Every pair carries a whole number: 0, its text is its own report, and it is positive to itself alone; k > 0, its text
says a class, and all pairs of that class are positives of each other; below 0, it is left out of the loss. The targets
are the equality matrix of the gathered batch, each row divided by its number of positives; soft-target cross entropy
both ways, halved. So it is `multi_positive_loss` with classes in place of equal texts, and `contrastive_loss` where all
are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from train.objectives.batch import PairBatch
from train.objectives.multi_positive import multi_positive_loss
from train.objectives.objective import Objective
from train.runs.distributed import rank


def unicl_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    logit_scale: Tensor,
    classes: Tensor,
    valid: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """The loss over the pairs of all processes; the mean over processes is that of the whole batch.

    Args:
        image_embeds, text_embeds: [n, D] of unit norm; n is equal on all processes.
        logit_scale: scalar, the logarithm of the inverse temperature.
        classes: [n] int64: 0 a report of its own, k > 0 a class, below 0 left out.
        valid: [n] bool; padding rows are False, and are neither positives nor negatives.
        weights: [n], see `multi_positive_loss`.
    """
    count = len(classes)
    own = -1 - rank() * count - torch.arange(count, device=classes.device)
    counts = classes >= 0 if valid is None else (classes >= 0) & valid.to(classes.device)
    identities = torch.where(classes > 0, classes, own)
    return multi_positive_loss(image_embeds, text_embeds, logit_scale, identities, counts, weights)


class UniCLObjective(Objective):
    """`unicl_loss` of label records (`train.pretrain.label_records`) and reports, at the temperature of the model."""

    takes_label_records = True

    @classmethod
    def collate(cls, pairs: list[dict]) -> dict[str, Tensor]:
        return {"text_class": torch.tensor([pair["text_class"] for pair in pairs])}

    def forward(self, model, image_embeds: Tensor, text_embeds: Tensor, batch: PairBatch) -> Tensor:
        classes = batch.extra["text_class"]
        return unicl_loss(image_embeds, text_embeds, model.logit_scale, classes, batch.valid, batch.weights)

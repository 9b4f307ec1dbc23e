"""Pairs that a reference model fits and the learner does not yet: hard, but not wrong.

Source: learnability of JEST (arXiv 2406.17711) and ACID (arXiv 2411.18674), with embeddings of the reference that are
computed once (`train.pretrain.reference`, after ActiveCLIP, arXiv 2312.05328). JEST also draws its batches jointly, in
chunks that condition on each other; here every pair has its own value within the super-batch.
"""

from __future__ import annotations

from torch import Tensor

from train.objectives.agreement import relative_agreement
from train.selection.knowledge import REFERENCE
from train.selection.negcliploss import AgreementConstants, select_highest
from train.selection.outcome import Selection
from train.selection.rule import Candidates, SelectionRule


def learnability(image_embeds: Tensor, text_embeds: Tensor, reference: Tensor, scale: float) -> Tensor:
    """[B]: the contrastive loss of each pair under the learner, minus that under the reference.

    Args:
        image_embeds, text_embeds: [B, D] of unit norm.
        reference: [B, 2 R], image and text embeddings of the reference, each of unit norm.
        scale: inverse temperature of both losses.
    """
    images, texts = reference.float().chunk(2, dim=1)
    return relative_agreement(images, texts, scale) - relative_agreement(image_embeds, text_embeds, scale)


def _choose(pairs: Candidates, keep_share: float, generator, constants: AgreementConstants) -> Selection:
    reference = pairs.known[REFERENCE].to(pairs.image_embeds.device)
    scale = constants.agreement_scale
    return select_highest(learnability(pairs.image_embeds, pairs.text_embeds, reference, scale), keep_share)


LEARNABILITY = SelectionRule(
    name="learnability",
    words="pairs that the reference model fits better than the learner",
    choose=_choose,
    needs=(REFERENCE,),
    constants=AgreementConstants,
    note="The embeddings of the reference are computed once, and their cost is counted as scoring.",
)

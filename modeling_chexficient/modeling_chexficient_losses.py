"""Losses in fp32: of the dual encoder, contrastive; of the heads, means over what somebody judged.

A head's loss is 0 where nobody judged anything.
"""

from collections.abc import Iterable
from typing import Final, Literal

import torch
import torch.nn.functional as F

ProblemType = Literal["multi_label_classification", "single_label_classification", "regression"]
MULTI: Final = "multi_label_classification"
SINGLE: Final = "single_label_classification"
REGRESSION: Final = "regression"
# Labels of images that nobody judged, where each image has one class.
NOT_JUDGED = -100


def similarity_logits(image_embeds: torch.Tensor, text_embeds: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    """exp(logit_scale) x image . text^T, [images, texts], in fp32.

    `image_embeds` [images, D] and `text_embeds` [texts, D] have unit length; `logit_scale` is the logarithm.
    """
    # Autocast would round cosines to 8 bits before the scale (100) makes the error one of tenths of a logit.
    with torch.autocast(image_embeds.device.type, enabled=False):
        return logit_scale.float().exp() * image_embeds.float() @ text_embeds.float().t()


def contrastive_loss(logits_per_image: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE: the mean of image-to-text and text-to-image cross entropy, pairs on the diagonal.

    Raises ValueError where `logits_per_image` is not square [pairs, pairs].
    """
    if logits_per_image.ndim != 2 or logits_per_image.shape[0] != logits_per_image.shape[1]:
        raise ValueError(
            "The contrastive loss needs one text per image, but logits_per_image has shape "
            f"{tuple(logits_per_image.shape)} [images, texts]"
        )
    pairs = torch.arange(logits_per_image.shape[0], device=logits_per_image.device)
    return (F.cross_entropy(logits_per_image, pairs) + F.cross_entropy(logits_per_image.t(), pairs)) / 2


def infer_problem_type(num_labels: int, labels: torch.Tensor) -> ProblemType:
    """What labels mean where the configuration does not tell, by the rule of transformers."""
    if num_labels == 1:
        return REGRESSION
    return SINGLE if labels.dtype in (torch.long, torch.int) else MULTI


def one_class_loss(logits: torch.Tensor, labels: torch.Tensor, ignored: int = NOT_JUDGED) -> torch.Tensor:
    """Cross entropy of logits [B, classes, ...] and integers [B, ...], `ignored` where nobody judged.

    Raises ValueError for other shapes and types, and for classes that are not there.
    """
    expected = (logits.shape[0], *logits.shape[2:])
    if labels.shape != expected or labels.is_floating_point():
        raise ValueError(
            f"labels must be integers {expected}, one class each, not {labels.dtype} {tuple(labels.shape)}"
        )
    judged = labels != ignored
    _check_values(labels[judged], logits.shape[1], ignored)
    losses = F.cross_entropy(logits.float(), labels.long(), ignore_index=ignored, reduction="sum")
    return losses / judged.sum().clamp(min=1)


def findings_loss(
    logits: torch.Tensor, labels: torch.Tensor, names: Iterable[str], pos_weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Binary cross entropy of logits and labels [B, labels], labels from 0 to 1 or NaN where nobody judged.

    `pos_weight` [labels] tells how much more a present finding weighs than an absent one. Raises ValueError for other
    shapes (with the names of the labels) and values.
    """
    truth, judged = _known(logits, labels, names)
    if ((truth < 0) | (truth > 1)).any():
        raise ValueError("labels must lie between 0 and 1, or be NaN where nobody judged")
    if pos_weight is not None:
        if pos_weight.shape != logits.shape[1:]:
            raise ValueError(f"pos_weight must be [{logits.shape[1]}], one per label, not {tuple(pos_weight.shape)}")
        pos_weight = pos_weight.to(logits.device, torch.float32)
    losses = F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none", pos_weight=pos_weight)
    return (losses * judged).sum() / judged.sum().clamp(min=1)


def regression_loss(values: torch.Tensor, labels: torch.Tensor, names: Iterable[str]) -> torch.Tensor:
    """Mean squared error of values and labels [B, labels] (or labels [B], if there is one), NaN where unknown.

    Raises ValueError for other shapes.
    """
    truth, judged = _known(values, labels.unsqueeze(1) if labels.ndim == 1 else labels, names)
    losses = F.mse_loss(values.float(), truth, reduction="none")
    return (losses * judged).sum() / judged.sum().clamp(min=1)


def structures_loss(logits: torch.Tensor, labels: torch.Tensor, ignored: int, names: Iterable[str]) -> torch.Tensor:
    """`entropy_and_dice` of masks [B, structures, H, W]: 1 inside, 0 outside, `ignored` where nobody judged.

    Raises ValueError for other shapes (with the names of the structures) and values.
    """
    _check_shape(logits, labels, names, "[images, structures, height, width]")
    judged = labels != ignored
    _check_values(labels[judged], 2, ignored)
    return entropy_and_dice(logits, labels == 1, judged)


def entropy_and_dice(
    logits: torch.Tensor,
    inside: torch.Tensor,
    judged: torch.Tensor,
    counts: torch.Tensor | None = None,
    entropy_weight: float = 1.0,
) -> torch.Tensor:
    """Binary cross entropy plus 1 - soft Dice of overlapping structures, over judged pixels only; scalar fp32.

    The cross entropy is multiplied by `entropy_weight`; 0 leaves soft Dice alone (arXiv 1606.04797), which does not
    grow with the pixels outside of a structure, and so does not begin by putting a thin one out.

    All are [B, structures, H, W]; `inside` and `judged` are booleans. The soft Dice of a structure is of the whole
    batch, so that films without it count; structures nobody judged stay out. 0 where no pixel of the batch is judged.

    `counts` [2] are what cross entropies and Dices are divided by; default: `judged_counts` of this batch. Where
    several batches make one step, the sum of their counts makes each loss its share of the step's.
    """
    pixels, structures = (judged_counts(judged) if counts is None else counts).clamp(min=1)
    seen = judged.flatten(2).any(2).any(0)
    logits, truth, judged = logits.float(), (inside & judged).float(), judged.float()
    found, axes = logits.sigmoid() * judged, (0, 2, 3)
    dice = (2 * (found * truth).sum(axes) + 1) / (found.sum(axes) + truth.sum(axes) + 1)
    loss = ((1 - dice) * seen).sum() / structures
    if entropy_weight == 0:
        return loss
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return entropy_weight * (entropy * judged).sum() / pixels + loss


def judged_counts(judged: torch.Tensor) -> torch.Tensor:
    """Pixels of `judged` [B, structures, H, W], and structures with any: int64 [2], on its device."""
    return torch.stack([judged.sum(), judged.flatten(2).any(2).any(0).sum()])


def _known(logits: torch.Tensor, labels: torch.Tensor, names: Iterable[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels as fp32 with 0 for NaN, and where they are known."""
    _check_shape(logits, labels, names, "[images, labels]")
    judged = ~labels.isnan()
    return torch.where(judged, labels, 0).float(), judged


def _check_shape(logits: torch.Tensor, labels: torch.Tensor, names: Iterable[str], axes: str) -> None:
    if labels.shape != logits.shape:
        raise ValueError(
            f"labels must be {axes} {tuple(logits.shape)}, not {tuple(labels.shape)}: this head has the labels "
            f"{', '.join(names)}"
        )


def _check_values(judged: torch.Tensor, number: int, ignored: int) -> None:
    """Raise a ValueError that names the values which are none of 0 ... number - 1."""
    judged = judged.float()
    wrong = judged[(judged < 0) | (judged >= number) | (judged != judged.round())]
    if len(wrong):
        values = ", ".join(f"{value:g}" for value in wrong.unique()[:10].tolist())
        raise ValueError(f"labels hold {values}, but this head knows 0 to {number - 1}, and {ignored} for not judged")


__all__ = [
    "entropy_and_dice",
    "findings_loss",
    "judged_counts",
    "one_class_loss",
    "regression_loss",
    "structures_loss",
]

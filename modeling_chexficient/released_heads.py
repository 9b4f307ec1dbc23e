"""Released heads: the linear probe and the U-Net decoder, which come with the image tower but without the text side.

The kind of a checkpoint is told by its tensors and kept as the class that a configuration names (`architectures`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig

from .configuration_chexficient import CheXficientConfig
from .decoders_chexficient import PublishedUNetDecoder, pyramid_channels

PROBE, UNET = "CheXficientForImageClassification", "CheXficientForSemanticSegmentation"
# By kind, the tensor whose rows are the classes.
CLASSES = {PROBE: "classification_layer.weight", UNET: "decoder.up4.conv.0.weight"}
PROBLEM_TYPES = ("multi_label_classification", "single_label_classification")


def head_kind(tensors: dict[str, torch.Tensor]) -> str | None:
    """The class of the head that released tensors hold; None for a dual encoder."""
    if any(name.startswith("classification_layer.") for name in tensors):
        return PROBE
    return UNET if any(name.startswith("decoder.") for name in tensors) else None


def config_kind(config: CheXficientConfig) -> str | None:
    """The class of the head that a configuration names; None for a dual encoder."""
    return next((name for name in config.architectures or [] if name in CLASSES), None)


def infer_head_config(
    tensors: dict[str, torch.Tensor],
    kind: str,
    vision_config: PretrainedConfig,
    labels: Sequence[str] | None = None,
    problem_type: str = PROBLEM_TYPES[0],
    clip_logits: bool = False,
) -> CheXficientConfig:
    """The configuration of a released head on a tower.

    Args:
        labels: names of the classes in the order of the rows; LABEL_0, LABEL_1 ... by default.
        problem_type: whether classes may occur together, which the tensors do not tell.
        clip_logits: as of `CheXficientConfig`, for the U-Net.

    Raises ValueError where the tensor of the classes is missing or the labels are not as many, or not distinct.
    """
    if CLASSES[kind] not in tensors:
        raise ValueError(f"Not a released CheXficient head, missing tensors: {CLASSES[kind]}")
    number = len(tensors[CLASSES[kind]])
    labels = [f"LABEL_{row}" for row in range(number)] if labels is None else list(labels)
    if len(labels) != number or len(set(labels)) != number or not all(labels):
        raise ValueError(f"The head has {number} classes: name each of them once, not {', '.join(labels)}")
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, not {problem_type!r}")
    if clip_logits and kind != UNET:
        raise ValueError("Only the logits of a U-Net can be clipped, and this is a linear probe")
    head: dict[str, Any] = {"image_pooling": "normalized"} if kind == PROBE else {"mask_decoder": "published_unet"}
    return CheXficientConfig(
        vision_config,
        id2label=dict(enumerate(labels)),
        label2id={label: row for row, label in enumerate(labels)},
        problem_type=problem_type,
        clip_logits=clip_logits,
        architectures=[kind],
        **head,
    )


def head_shapes(config: CheXficientConfig, kind: str) -> dict[str, tuple[int, ...]]:
    """Released name -> shape of the tensors of a head."""
    classes = config.num_labels
    if kind == PROBE:
        hidden = config.vision_config.hidden_size
        return {"classification_layer.weight": (classes, hidden), "classification_layer.bias": (classes,)}
    with torch.device("meta"):
        decoder = PublishedUNetDecoder(pyramid_channels(config.vision_config), classes)
    return {f"decoder.{name}": tuple(tensor.shape) for name, tensor in decoder.state_dict().items()}

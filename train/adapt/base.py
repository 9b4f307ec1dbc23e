"""The base of an adaptation: a tower with a new head, and the preprocessing that belongs to it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from transformers import MODEL_MAPPING, AutoConfig, AutoImageProcessor, PretrainedConfig, PreTrainedModel

from data_scripts.schema import DataError
from modeling_chexficient import CheXficientConfig, CheXficientImageProcessor
from modeling_chexficient.precision_chexficient import loading_arguments


def load_config(name: str, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a base that sees images.

    Raises:
        ValueError: there is no such model, transformers does not know it, or it takes no images.
    """
    try:
        config = AutoConfig.from_pretrained(name, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise ValueError(f"--model {name} is neither a CheXficient model nor a vision tower ({error})") from error
    if config.model_type == CheXficientConfig.model_type:
        return config
    if revision is not None:
        raise ValueError(f"--revision is for CheXficient models, {name} is a {config.model_type}: give a folder of it")
    tower = getattr(config, "vision_config", config)
    model_class = MODEL_MAPPING.get(type(tower), None)
    if getattr(model_class, "main_input_name", None) != "pixel_values":
        raise ValueError(f"--model {name} is a {config.model_type}, which takes no images alone: name a vision tower")
    return config


def names_of_head(config: PretrainedConfig, head_class: type[PreTrainedModel]) -> list[str]:
    """The labels, in order, where the base is a folder of such a head already; empty where the head will be new."""
    if head_class.__name__ not in (config.architectures or []):
        return []
    return [config.id2label[number] for number in range(config.num_labels)]


def check_names(kind: str, wanted: Sequence[str], of_head: Sequence[str], name: str) -> None:
    """Raise ValueError where the head that the base brings has not just the labels (or structures) asked for."""
    lacking = [label for label in wanted if label not in of_head]
    if of_head and lacking:
        raise ValueError(
            f"the head of {name} has no {kind} {lacking}, only {list(of_head)}: start from a base without a head, or "
            f"leave {kind} out"
        )
    if of_head and wanted and list(wanted) != list(of_head):
        raise ValueError(f"the head of {name} has the {kind} {list(of_head)}, in this order: leave {kind} out")


def unlearnable(problem: str, missing: Sequence[str], known: Sequence[str]) -> DataError:
    """The error for names that no training film has, with the known ones that are close; `problem` has {} for them."""
    close = {name: difflib.get_close_matches(name, known, n=2, cutoff=0.5) for name in missing}
    hints = [f"{name!r}: did you mean {' or '.join(map(repr, found))}?" for name, found in close.items() if found]
    there = f"There are: {list(known) or 'none'}"
    return DataError(" ".join([f"{problem.format(missing or '(any)')}.", *hints, there]))


def load_head(
    head_class: type[PreTrainedModel],
    name: str,
    revision: str | None,
    config: PretrainedConfig,
    precision: str = "fp32",
    **head,
) -> PreTrainedModel:
    """The base's tower under a head; `head` are the fields of `CheXficientConfig` that make it.

    In fp32, which `apply_method` brings into bf16; in 8 or 4 bits on the GPU at once. Raises ValueError where that
    cannot be (`check_precision`).
    """
    loading = loading_arguments(precision, head_on_tower=True)
    if config.model_type == CheXficientConfig.model_type:
        return head_class.from_pretrained(name, revision=revision or "main", **loading, **head)
    return head_class.from_vision_pretrained(name, **loading, **head)


def load_image_processor(name: str, revision: str | None) -> CheXficientImageProcessor:
    """The base's preprocessing; that of another tower is taken over by size, mean and standard deviation.

    Raises:
        ValueError: the base brings none.
    """
    try:
        processor = AutoImageProcessor.from_pretrained(name, revision=revision or "main", backend="pil")
    except (OSError, ValueError) as error:
        raise ValueError(f"--model {name} lacks its image processor ({error})") from error
    if isinstance(processor, CheXficientImageProcessor):
        return processor
    size = dict(getattr(processor, "crop_size", None) or processor.size)
    return CheXficientImageProcessor(
        int(size.get("height") or size["shortest_edge"]), image_mean=processor.image_mean, image_std=processor.image_std
    )

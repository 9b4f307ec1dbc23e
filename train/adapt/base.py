"""The base of an adaptation: a tower with a new head, and the preprocessing that belongs to it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from transformers import MODEL_MAPPING, AutoConfig, AutoImageProcessor, PretrainedConfig, PreTrainedModel

from data_scripts.schema import DataError
from modeling_chexficient import CheXficientConfig, CheXficientImageProcessor
from modeling_chexficient.modeling_chexficient_losses import MULTI
from modeling_chexficient.precision_chexficient import loading_arguments
from train.adapt.arguments import TaskArguments

#: Fields of `CheXficientConfig` of other names than the arguments.
_FIELDS = {"decoder": "mask_decoder"}


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


def form_of_head(config: PretrainedConfig, of_head: Sequence[str], task: TaskArguments, argument: str) -> str:
    """The `argument` of a head: as asked for; of a head that the base brings, as it was trained.

    Its weights are for that alone: on another feature, or as another decoder, they would be as good as random.

    Raises:
        ValueError: another was asked for, or the base's head gives one class of several, not findings or structures of
            which each is a question of its own.
    """
    asked, default = getattr(task, argument), TaskArguments.__dataclass_fields__[argument].default
    if not of_head:
        return asked
    if config.problem_type not in (None, MULTI):
        raise ValueError(
            f"the head of {task.model} was trained as {config.problem_type}, and here each of {list(of_head)} is a "
            "question of its own: start from a base without a head"
        )
    own = getattr(config, _FIELDS.get(argument, argument))
    if asked not in (default, own):
        raise ValueError(
            f"the head of {task.model} was trained with {argument} {own}, not {asked}: leave {argument} out, or start "
            "from a base without a head"
        )
    return own


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

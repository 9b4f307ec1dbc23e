"""Putting an adapter on a model: the head it needs, the layers that PEFT adds, and whether the two belong together."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging

from .adapter_files_chexficient import AdapterRecord, check_weights, few_of, match_names, split_key
from .base_identity_chexficient import OF_ADAPTERS, BaseIdentity, local_folder, own_weights, vision_tower
from .configuration_chexficient import CheXficientConfig
from .modeling_chexficient_heads import HEADS
from .precision_chexficient import hold_base, is_quantised
from .tasks_chexficient import TASKS, TASKS_ON_THE_HUB

if TYPE_CHECKING:
    from peft import PeftModel

    from .adapter_files_chexficient import AdapterConfig

#: What ends the name of an adapter's own tensor.
_PLAIN_NAME = re.compile(r"\.(weight|bias)$")
#: Head on the image tower, by the task's name on the Hub.
TOWER_HEADS = {task.hub_name: HEADS[task.auto_model] for task in TASKS.values() if task.head_on_tower}


def load_head(record: AdapterRecord, folder: Path, **loading) -> PreTrainedModel:
    """The model that an adapter is put on, from the folder of its base; its head has no trained weights yet.

    Args:
        loading: `dtype` and others, for `from_pretrained`.
    """
    config = AutoConfig.from_pretrained(folder)
    arguments = record.head_arguments
    verbosity = logging.get_verbosity()
    # That the head's weights are not in the base is no news here.
    logging.set_verbosity_error()
    try:
        if record.task not in TOWER_HEADS:
            auto_model = getattr(transformers, TASKS_ON_THE_HUB[record.task].auto_model)
            return auto_model.from_pretrained(folder, **loading)
        if config.model_type != CheXficientConfig.model_type:
            return TOWER_HEADS[record.task].from_vision_pretrained(str(folder), **loading, **arguments)
        # A base may have a head of its own, for other labels.
        arguments = {**loading, **arguments, "ignore_mismatched_sizes": True}
        return TOWER_HEADS[record.task].from_pretrained(folder, **arguments)
    finally:
        logging.set_verbosity(verbosity)


def attach(
    model: nn.Module,
    folder: Path,
    config: AdapterConfig,
    weights: dict[str, Tensor],
    name: str,
    precision: str = "fp32",
) -> PeftModel:
    """Put an adapter's layers on `model`, in place, and its weights into them; all frozen, in evaluation mode.

    `model` was loaded in `precision`; "fp32" leaves types as they are.

    Raises ValueError where the weights do not fit what `config` makes of the model.
    """
    from peft import PeftModel, set_peft_model_state_dict

    weights = match_names(model, config, weights)
    attached = PeftModel(model, config, name)
    # Before the weights are there, which would lose digits in a lower type.
    hold_base(attached, precision)
    check_weights(folder, adapter_weights(attached, name), weights)
    set_peft_model_state_dict(attached, weights, adapter_name=name)
    attached.requires_grad_(False)
    return attached.eval()


def adapter_weights(peft_model: PeftModel, name: str) -> dict[str, Tensor]:
    """The weights of one adapter by the names that PEFT saves them with."""
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(peft_model, adapter_name=name, save_embedding_layers=False)
    # On a tower that several heads share, the tensors of the other adapters have longer names; PEFT does not know them.
    return {key: tensor for key, tensor in weights.items() if "." not in _PLAIN_NAME.sub("", split_key(key)[2])}


def check_base_was_kept(model: PreTrainedModel, record: AdapterRecord) -> None:
    """Raise ValueError, naming tensors, where a model with an adapter is not its base apart from the adapter.

    Training leaves traces beside an adapter where batch normalisation runs in training mode, or where a layer was made
    trainable by hand: none of it would be saved.
    """
    tower = own_weights(vision_tower(model))
    loaded = own_weights(tower_of_base(model, record))
    if is_quantised(model):
        # Integers and their scales are not compared: they have no gradient, and no step changes them.
        both = tower.keys() & loaded.keys()
        tower, loaded = {name: tower[name] for name in both}, {name: loaded[name] for name in both}
    changed = {
        name
        for name in tower.keys() | loaded.keys()
        if name not in tower
        or name not in loaded
        or not torch.equal(tower[name].cpu(), loaded[name].to("cpu", tower[name].dtype))
    }
    if record.task not in TOWER_HEADS:
        inside = {id(parameter) for parameter in vision_tower(model).parameters()}
        changed |= {
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and id(parameter) not in inside and not any(part in name for part in OF_ADAPTERS)
        }
    if changed:
        raise ValueError(
            f"the model differs from its base {record.base} in what an adapter does not hold: {few_of(changed)}. "
            "Name layers that are trained beside it in its `modules_to_save`, and keep batch normalisation of the "
            "tower in evaluation mode (`model.get_base_model().vision_model.eval()` after every `model.train()`). What "
            "was trained already can be saved as a whole: `model.merge_and_unload().save_pretrained(folder)`"
        )


def tower_of_base(model: PreTrainedModel, record: AdapterRecord) -> PreTrainedModel:
    """The vision tower as it is loaded from the base, in fp32; of a report model without its language model."""
    folder = local_folder(record.base.name, record.base.revision)
    if record.task in TOWER_HEADS:
        return vision_tower(load_head(record, folder, dtype=torch.float32))
    tower = vision_tower(model)
    verbosity = logging.get_verbosity()
    # All but the tower is unexpected here.
    logging.set_verbosity_error()
    try:
        # With its loading information it is a pair.
        pair: Any = type(tower).from_pretrained(
            folder,
            config=tower.config,
            key_mapping={r"^(model\.)?vision_tower\.": ""},
            dtype=torch.float32,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(verbosity)
    loaded, report = pair
    if report["missing_keys"]:
        raise ValueError(f"{folder} lacks tensors of the vision tower: {few_of(set(report['missing_keys']))}")
    return loaded


def check_bare(tower: nn.Module) -> None:
    """Raise ValueError where a tower bears an adapter."""
    if any(part in name for name in tower.state_dict() for part in OF_ADAPTERS):
        raise ValueError("the tower bears an adapter already: merge it (merge_and_unload) or load the base anew")


def check_tower(directory: str, record: AdapterRecord, found: str, place: str) -> None:
    """Raise ValueError unless the tower with the hash `found` (of `place`) is the one the adapter was trained on."""
    if record.tower_sha256 != found:
        raise ValueError(
            f"{directory} was trained on the vision tower of {record.base} (tower {record.tower_sha256[:12]}), not on "
            f"that of {place} (tower {found[:12]}): the weights differ"
        )


def warn_of_other_code(directory: str, trained: BaseIdentity, found: BaseIdentity) -> None:
    """Warn where base and adapter agree in weights, but not in code."""
    if trained.code_sha256 != found.code_sha256:
        warnings.warn(
            f"{directory} was trained with the modelling code {trained.code_sha256[:12]} of {trained}; that of {found} "
            f"is {found.code_sha256[:12]}. The weights are the same, but check that the results are",
            stacklevel=3,
        )


def warn_of_other_precision(directory: str, record: AdapterRecord, tower: PreTrainedModel) -> None:
    """Warn where an adapter was trained on a base in lower precision than this one has."""
    held = "bf16" if tower.dtype == torch.bfloat16 else "fp32"
    if record.base_precision not in ("fp32", held):
        warnings.warn(
            f"{directory} was trained on a base in {record.base_precision}, this one is in {held}: outputs differ a "
            "little. load_adapter holds the base as it was",
            stacklevel=3,
        )

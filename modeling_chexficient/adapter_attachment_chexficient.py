"""Putting an adapter on a model: the head it needs, the layers that PEFT adds, and whether the two belong together."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging

from .adapter_files_chexficient import LORA_PART, AdapterRecord, check_weights, match_names
from .base_identity_chexficient import BaseIdentity
from .configuration_chexficient import CheXficientConfig
from .modeling_chexficient_heads import HEADS
from .tasks_chexficient import TASKS, TASKS_ON_THE_HUB

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

#: Head on the image tower, by the task's name on the Hub.
TOWER_HEADS = {task.hub_name: HEADS[task.auto_model] for task in TASKS.values() if task.head_on_tower}


def load_head(record: AdapterRecord, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model that an adapter is put on, from the folder of its base; its head has no trained weights yet."""
    config = AutoConfig.from_pretrained(folder)
    arguments = record.head_arguments
    verbosity = logging.get_verbosity()
    # That the head's weights are not in the base is no news here.
    logging.set_verbosity_error()
    try:
        if record.task not in TOWER_HEADS:
            auto_model = getattr(transformers, TASKS_ON_THE_HUB[record.task].auto_model)
            return auto_model.from_pretrained(folder, dtype=dtype)
        if config.model_type != CheXficientConfig.model_type:
            return TOWER_HEADS[record.task].from_vision_pretrained(str(folder), dtype=dtype, **arguments)
        # A base may have a head of its own, for other labels.
        return TOWER_HEADS[record.task].from_pretrained(folder, dtype=dtype, ignore_mismatched_sizes=True, **arguments)
    finally:
        logging.set_verbosity(verbosity)


def attach(model: nn.Module, folder: Path, config: LoraConfig, weights: dict[str, Tensor], name: str) -> PeftModel:
    """Put an adapter's layers on `model`, in place, and its weights into them; all frozen, in evaluation mode.

    Raises ValueError where the weights do not fit what `config` makes of the model.
    """
    from peft import PeftModel, set_peft_model_state_dict

    weights = match_names(model, config, weights)
    attached = PeftModel(model, config, name)
    check_weights(folder, adapter_weights(attached, name), weights)
    set_peft_model_state_dict(attached, weights, adapter_name=name)
    attached.requires_grad_(False)
    return attached.eval()


def adapter_weights(peft_model: PeftModel, name: str) -> dict[str, Tensor]:
    """The weights of one adapter by the names that PEFT saves them with."""
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(peft_model, adapter_name=name, save_embedding_layers=False)
    # On a tower that several heads share, the tensors of the other adapters have longer names; PEFT does not know them.
    return {key: tensor for key, tensor in weights.items() if key.partition(LORA_PART)[2].count(".") < 2}


def check_bare(tower: nn.Module) -> None:
    """Raise ValueError where a tower bears an adapter."""
    if any(".lora_" in name or ".modules_to_save." in name for name in tower.state_dict()):
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

"""Weights sharded over processes: PyTorch's `fully_shard` (FSDP2), as accelerate applies it.

No process holds a whole model: each layer is gathered for as long as it computes, in every forward pass, so all
processes must make equally many of them. A checkpoint and the model that is saved are whole all the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy
from transformers import TrainingArguments

#: Of accelerate's plugin: what is refused, how it is recognised, and what to do. Names are those of `fsdp_config`.
_REFUSED = {
    "version": (lambda plugin: plugin.fsdp_version != 2, "version 2 alone is supported: set it"),
    "reshard_after_forward": (
        lambda plugin: not plugin.reshard_after_forward,
        "weights kept after forward are those of every card: set it to true (full_shard), or use DDP without fsdp",
    ),
    "cpu_offload": (
        lambda plugin: isinstance(plugin.cpu_offload, CPUOffloadPolicy),
        "weights on the host are not tried: take more cards, or a lower chunk_size",
    ),
    "cpu_ram_efficient_loading": (
        lambda plugin: plugin.cpu_ram_efficient_loading,
        "every process builds the model for itself: set it to false",
    ),
    "activation_checkpointing": (
        lambda plugin: plugin.activation_checkpointing,
        "it would draw dropout anew: give gradient_checkpointing",
    ),
    "ignored_modules": (lambda plugin: plugin.ignored_modules is not None, "leave it out"),
}


def sharding_is_asked_for(args: TrainingArguments) -> bool:
    """Whether an argument or the launcher (`accelerate launch --use_fsdp`) asks for FSDP."""
    return bool(args.fsdp) or parse_flag_from_env("ACCELERATE_USE_FSDP")


def refuse_launched(args: TrainingArguments, accelerator: Accelerator, takes_sharding: bool) -> None:
    """Raise ValueError for a way to distribute that the launcher chose and a run does not support.

    Args:
        takes_sharding: whether it supports FSDP.
    """
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(f"{kind.value.lower()} is not supported: launch with --multi_gpu, or --use_fsdp to shard")
    if not sharding_is_asked_for(args):
        return
    if not takes_sharding:
        raise ValueError("fsdp is not supported: one process a GPU (DDP) is what is tried, launch with --multi_gpu")
    if kind != DistributedType.FSDP:
        raise ValueError(
            f"fsdp does nothing here, since accelerate shards over several GPUs alone and this run is {kind.value}: "
            "start a process for each GPU, or leave fsdp out"
        )


def prepare_sharding(args: TrainingArguments, accelerator: Accelerator, model: nn.Module) -> nn.ParameterList:
    """Set accelerate's plugin up for `model`, before it is sharded.

    Returns:
        the parameters that every process keeps whole, since scalars cannot be sharded: their gradients are to be
        averaged (`train.runs.distributed.average_gradients`). Empty where nothing is sharded.

    Raises:
        ValueError: the plugin is set to something that is not supported.
    """
    kept_whole = nn.ParameterList()
    if accelerator.distributed_type != DistributedType.FSDP:
        return kept_whole
    plugin: Any = accelerator.state.fsdp_plugin
    for name, (is_set, advice) in _REFUSED.items():
        if is_set(plugin):
            raise ValueError(f"fsdp: {name} is not supported as it is: {advice}")
    if args.fp16:
        raise ValueError("fsdp does not go with fp16: give bf16")
    kept_whole.extend(parameter for parameter in model.parameters() if parameter.ndim == 0)
    for parameter in kept_whole:
        # The others are moved as they are sharded.
        parameter.data = parameter.data.to(accelerator.device)
    plugin.ignored_modules = [kept_whole]
    # Nothing here writes into what a model returns.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    plugin.set_state_dict_type("FULL_STATE_DICT")
    if plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = layer_classes(model)
    if args.bf16:
        # Embeddings stay fp32, and gradients are summed as such; accelerate has both in bf16.
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    return kept_whole


def layer_classes(model: nn.Module) -> list[str]:
    """Names of the classes that are gathered one by one: what transformers keeps together on a device.

    Without the embedding of words and what holds it, since accelerate shards that by itself and fails where it is done.
    """
    words = model.get_input_embeddings()
    wanted = set(getattr(model, "_no_split_modules", None) or ())
    found: dict[str, list[nn.Module]] = {}
    for module in model.modules():
        found.setdefault(type(module).__name__, []).append(module)
    return sorted(
        name
        for name in wanted & found.keys()
        if not any(words is part for module in found[name] for part in module.modules())
    )


def with_group_of_its_own(optimizer: torch.optim.Optimizer, kept_whole: nn.ParameterList) -> torch.optim.Optimizer:
    """The optimiser with `kept_whole` in a group apart: it steps a group at once, and cannot where some are sharded."""
    whole = {id(parameter) for parameter in kept_whole}
    for group in list(optimizer.param_groups):
        apart = [parameter for parameter in group["params"] if id(parameter) in whole]
        if apart and len(apart) < len(group["params"]):
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in whole]
            optimizer.add_param_group({**group, "params": apart})
    return optimizer


@contextmanager
def as_before_sharding(model: nn.Module, model_class: type[nn.Module]) -> Iterator[None]:
    """The model as a `model_class`: sharding made a class of its own, and saving copies the code of that beside it."""
    sharded_class = type(model)
    model.__class__ = model_class
    try:
        yield
    finally:
        model.__class__ = sharded_class


def gather_weights(model: nn.Module) -> dict[str, Tensor] | None:
    """All weights of a sharded model, on the CPU of rank 0 (no entry on the others); None where it is not sharded.

    All processes must call it.
    """
    if not isinstance(model, FSDPModule):
        return None
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Put whole `weights`, which every process has, into a model that may be sharded."""
    if isinstance(model, FSDPModule):
        set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True))
    else:
        model.load_state_dict(weights, strict=True)

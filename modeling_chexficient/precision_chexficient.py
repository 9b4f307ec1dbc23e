"""The precision that the frozen base of an adapter is held in. What an adapter trains is fp32, whatever the base is."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from .base_identity_chexficient import OF_ADAPTERS, vision_tower

#: fp32; bf16, half the memory; 8 bits (LLM.int8(), arXiv 2208.07339) and 4 (NF4 of QLoRA, arXiv 2305.14314) of the
#: linear layers, the rest in bf16.
PRECISIONS = ("fp32", "bf16", "8bit", "4bit")
QUANTISED = ("8bit", "4bit")
#: Modules that are never quantised, by the beginning of their names: heads are trained, and logits are left exact.
_KEPT = ("classifier", "decode_head", "model.multi_modal_projector", "lm_head")


def check_precision(precision: str, device: torch.device | None = None) -> None:
    """Raise ValueError where a base cannot be held in `precision` here: 8bit and 4bit need a GPU and bitsandbytes.

    Args:
        device: where the model will be; default: a GPU, if there is one.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"a base is held in {', '.join(PRECISIONS)}, not in {precision!r}")
    if precision not in QUANTISED:
        return
    on_gpu = torch.cuda.is_available() if device is None else device.type == "cuda"
    if not on_gpu:
        raise ValueError(
            f"a base in {precision} (QLoRA) needs a CUDA GPU, and this is the CPU: take bf16, which works on both"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"a base in {precision} needs the package bitsandbytes: pip install bitsandbytes, or take bf16"
        )


def loading_arguments(precision: str, head_on_tower: bool) -> dict[str, Any]:
    """Arguments of `from_pretrained` that load a base for `precision`; `hold_base` does the rest.

    Args:
        head_on_tower: the model is a head on a tower, whose weights are not to be rounded; else it writes reports, and
            its language model is not to be in memory in fp32.

    Raises ValueError as `check_precision`.
    """
    check_precision(precision)
    if precision not in QUANTISED:
        return {"dtype": torch.bfloat16 if precision == "bf16" and not head_on_tower else torch.float32}
    kept = {"llm_int8_skip_modules": list(_KEPT)}
    if precision == "8bit":
        quantisation = BitsAndBytesConfig(load_in_8bit=True, **kept)
    else:
        # As published: normal floats, their scales quantised as well.
        quantisation = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            **kept,
        )
    # The current GPU; bitsandbytes itself could do without one, slowly, which tests make use of.
    where = "cuda" if torch.cuda.is_available() else "cpu"
    return {"dtype": torch.bfloat16, "quantization_config": quantisation, "device_map": {"": where}}


def hold_base(model: nn.Module, precision: str) -> None:
    """Bring a model with an adapter into `precision`, in place: its tower, while all that the adapter trains is fp32.

    What is trained casts what it is given to its own type; in the tower, its output goes back to the tower's type, as
    that of LoRA's layers does. Language models are loaded in their precision and left alone here.
    """
    if precision == "fp32":
        return
    tower = vision_tower(model)  # type: ignore[arg-type]
    saved = tower.state_dict().keys()
    buffers = [(name, buffer) for name, buffer in tower.named_buffers() if name in saved]
    for name, tensor in (*tower.named_parameters(), *buffers):
        if tensor.is_floating_point() and not any(part in f".{name}" for part in OF_ADAPTERS):
            tensor.data = tensor.data.to(torch.bfloat16)
    for name, parameter in model.named_parameters():
        if any(part in name for part in OF_ADAPTERS):
            parameter.data = parameter.data.float()
    inside = {id(module) for module in tower.modules()}
    for module in model.modules():
        trained = getattr(module, "modules_to_save", None)
        if not isinstance(trained, nn.ModuleDict):
            continue
        for copied in trained.values():
            copied.float().register_forward_pre_hook(_cast_inputs)
        if id(module) in inside:
            module.register_forward_hook(_cast_output_back)


def is_quantised(model: nn.Module) -> bool:
    """Whether layers of a model are in 8 or 4 bits: such a model is neither moved nor cast."""
    return bool(getattr(model, "is_quantized", False))


def place(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The model on `device`; one in 8 or 4 bits was loaded there."""
    return model if is_quantised(model) else model.to(device)  # type: ignore[arg-type]


def _cast_inputs(module: nn.Module, inputs: tuple) -> tuple:
    dtype = next(parameter.dtype for parameter in module.parameters())
    return tuple(_cast(value, dtype) for value in inputs)


def _cast(value, dtype: torch.dtype):
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, Sequence) and any(isinstance(part, torch.Tensor) for part in value):
        return [_cast(part, dtype) for part in value]
    return value


def _cast_output_back(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    return output.to(inputs[0].dtype)


__all__ = ["PRECISIONS", "check_precision", "hold_base", "loading_arguments"]

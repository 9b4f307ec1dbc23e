"""What of a model is trained: an adapter of LoRA or HiRA, the head alone, or everything; and what stays as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peft import HiraConfig, LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel

from modeling_chexficient.precision_chexficient import hold_base
from train.adapt.arguments import MethodArguments
from train.adapt.lean_lora import save_memory

#: Names of a tower's last layer norm.
_FINAL_NORMS = ("layernorm", "post_layernorm", "norm", "final_layer_norm")
#: Query and value of the attention of any transformer: the names since transformers 5.18 and those before it, and the
#: one layer that some (DaViT, ViTDet, Hiera) have for query, key and value together.
_QUERY_AND_VALUE = r"(q_proj|v_proj|query|value|qkv)"


@dataclass(frozen=True)
class Parts:
    """The modules of a model that adaptation must know, by name.

    Args:
        tower: the vision tower.
        heads: modules that are new, and trained by every method.
        adapted: where adapters go; the vision tower, or the language model.
    """

    tower: str
    heads: tuple[str, ...]
    adapted: tuple[str, ...]


@dataclass(frozen=True)
class Trainable:
    """How much of a model is trained, in parameters."""

    trainable: int
    all: int

    @property
    def share(self) -> float:
        return self.trainable / self.all

    def __str__(self) -> str:
        return f"trainable: {self.trainable:,} of {self.all:,} parameters ({self.share:.2%})"


def apply_method(
    model: PreTrainedModel, parts: Parts, arguments: MethodArguments, precision: str = "fp32"
) -> PreTrainedModel | PeftModel:
    """The model with what the method trains set trainable; with all but full as a PEFT model around it.

    Args:
        precision: of the frozen base, for which it was loaded; what is trained is fp32.

    Raises:
        ValueError: a rank larger than a layer allows, or no layer to put an adapter on.
    """
    if arguments.method == "full":
        # Also where the tower stays as it is: loading has made trainable again what was frozen before.
        if arguments.freeze_tower:
            model.get_submodule(parts.tower).requires_grad_(False)
        return model
    if arguments.method == "linear":
        config = LoraConfig(target_modules=DUMMY_TARGET_MODULES, modules_to_save=[*parts.heads])
    else:
        config = CONFIGS[arguments.method](arguments, _places(model, parts, arguments))
        _check_layers(model, config)
    adapted = get_peft_model(model, config)
    if (
        precision != "fp32"
        and arguments.use_dora
        and any(".lora_" in name and tensor.ndim > 2 for name, tensor in adapted.named_parameters())
    ):
        raise ValueError(
            f"use_dora on convolutions needs a base in fp32 in peft, not {precision}: leave one of them out"
        )
    hold_base(adapted, precision)
    save_memory(adapted)
    return adapted


def _lora(arguments: MethodArguments, places: dict) -> LoraConfig:
    return LoraConfig(
        r=arguments.rank,
        lora_alpha=arguments.alpha,
        lora_dropout=arguments.dropout,
        use_rslora=arguments.use_rslora,
        use_dora=arguments.use_dora,
        **places,
    )


def _hira(arguments: MethodArguments, places: dict) -> HiraConfig:
    return HiraConfig(r=arguments.rank, hira_dropout=arguments.dropout, **places)


#: By method (`arguments.TUNERS`), PEFT's configuration of its adapter, given the layers.
CONFIGS: dict[str, Callable[[MethodArguments, dict], LoraConfig | HiraConfig]] = {"lora": _lora, "hira": _hira}


def _places(model: PreTrainedModel, parts: Parts, arguments: MethodArguments) -> dict:
    """The layers to adapt by name, head and final norm to be trained whole, as arguments of PEFT's configurations."""
    given = arguments.target_modules
    # A target with characters that no name has is a regular expression.
    expression = len(given) == 1 and re.search(r"[\\*+?|()\[\]^$]", given[0])
    targets = given[0] if expression else given or default_targets(model, parts.adapted)
    norms = final_norms(model, parts.tower) if parts.tower in parts.adapted else []
    return {"target_modules": targets, "modules_to_save": [*parts.heads, *norms]}


def _query_and_value(adapted: Sequence[str]) -> str:
    return rf"({'|'.join(map(re.escape, adapted))})\.(.*\.)?{_QUERY_AND_VALUE}"


def has_attention(model: PreTrainedModel, parts: Parts) -> bool:
    """Whether adapters go on query and value of attention; else on convolutions."""
    expression = _query_and_value(parts.adapted)
    return any(re.fullmatch(expression, name) for name, _ in model.named_modules())


def default_targets(model: PreTrainedModel, adapted: Sequence[str]) -> str | list[str]:
    """q and v of all attention below `adapted`, as an expression; without any, the names of the convolutions.

    The first convolution, which sees pixels, and grouped ones, whose matrices are tiny, are left alone.
    """
    expression = _query_and_value(adapted)
    if any(re.fullmatch(expression, name) for name, _ in model.named_modules()):
        return expression
    convolutions = [
        f"{root}.{name}"
        for root in adapted
        for name, module in model.get_submodule(root).named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    targets = [name for name in convolutions[1:] if model.get_submodule(name).groups == 1]
    if not targets:
        kinds = sorted({type(module).__name__ for module in model.get_submodule(adapted[0]).modules()})
        raise ValueError(
            f"no layer to put an adapter on: {type(model.get_submodule(adapted[0])).__name__} has neither q and v of "
            f"attention nor convolutions behind the first one, but {kinds}: name layers with --target_modules"
        )
    return targets


def final_norms(model: PreTrainedModel, tower: str) -> list[str]:
    """The name of the tower's last layer norm, if it has one."""
    inside = model.get_submodule(tower)
    return [f"{tower}.{name}" for name in _FINAL_NORMS if getattr(inside, name, None) is not None][:1]


def _check_layers(model: PreTrainedModel, config: LoraConfig | HiraConfig) -> None:
    """Raise ValueError where a layer cannot be adapted, its matrix has no such rank, or no layer is meant."""
    targets = config.target_modules
    found = False
    for name, module in model.named_modules():
        whole = isinstance(targets, str) and re.fullmatch(targets, name)
        listed = not isinstance(targets, str) and any(
            name == target or name.endswith(f".{target}") for target in targets
        )
        if not (whole or listed):
            continue
        found = True
        if not hasattr(module, "weight"):
            raise ValueError(f"target_modules: {name} is a {type(module).__name__}, not a layer with weights")
        if isinstance(config, HiraConfig) and getattr(module, "groups", 1) > 1:
            raise ValueError(f"method hira: {name} is a grouped convolution: leave it out with --target_modules")
        rows, columns = _shape(module)
        if config.r > min(rows, columns):
            raise ValueError(
                f"rank {config.r} is larger than layer {name} allows, whose matrix is {rows} x {columns}: lower the "
                "rank, or leave the layer out with --target_modules"
            )
    if not found:
        raise ValueError(
            f"target_modules {targets if isinstance(targets, str) else sorted(targets)} fit no layer of the model"
        )


def _shape(module: nn.Module) -> tuple[int, int]:
    """Rows and columns of a layer's matrix, which may be packed in 4 bits."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    rows, columns = module.weight.flatten(1).shape  # type: ignore[operator]
    return rows, columns


def count_trainable(model: nn.Module) -> Trainable:
    """Parameters that get a gradient, and all; PEFT's copies of trained modules replace the originals."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    frozen = sum(
        # Two weights of 4 bits are one number.
        parameter.numel() * (2 * parameter.element_size() if type(parameter).__name__ == "Params4bit" else 1)
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad and ".original_module." not in name
    )
    return Trainable(trainable, trainable + frozen)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without PEFT's wrapping."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def hold_frozen(tower: nn.Module) -> None:
    """Put what is frozen of a tower into evaluation mode: its running statistics and dropout are not to be trained.

    A tower without trainable parameters as a whole, else its batch normalisations whose parameters are frozen.
    """
    if not any(parameter.requires_grad for parameter in tower.parameters()):
        tower.eval()
        return
    for module in tower.modules():
        if isinstance(module, _BatchNorm) and not any(parameter.requires_grad for parameter in module.parameters()):
            module.eval()

"""Names of DINOv2's own files, and those of transformers: of the backbone and of the head, both ways.

RAD-DINO publishes both: `backbone_compatible.safetensors` and `dino_head.safetensors`.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

#: Published name and the name in a folder of transformers, as patterns of what both call alike.
_PAIRS = (
    ("cls_token", "embeddings.cls_token"),
    ("mask_token", "embeddings.mask_token"),
    ("register_tokens", "embeddings.register_tokens"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj.{kind}", "embeddings.patch_embeddings.projection.{kind}"),
    ("blocks.{block}.{part}.{kind}", "encoder.layer.{block}.{part}.{kind}"),
    ("blocks.{block}.attn.proj.{kind}", "encoder.layer.{block}.attention.output.dense.{kind}"),
    ("blocks.{block}.ls{number}.gamma", "encoder.layer.{block}.layer_scale{number}.lambda1"),
    ("blocks.{block}.mlp.w12.{kind}", "encoder.layer.{block}.mlp.weights_in.{kind}"),
    ("blocks.{block}.mlp.w3.{kind}", "encoder.layer.{block}.mlp.weights_out.{kind}"),
    ("norm.{kind}", "layernorm.{kind}"),
)
_WORDS = {"kind": "weight|bias", "block": r"\d+", "number": "[12]", "part": r"norm[12]|mlp\.fc[12]"}
_QKV = re.compile(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)")
_PART = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)")
_PARTS = ("query", "key", "value")

#: Weight normalisation as torch's old way names its parts, and as the new one does.
_OLD_TO_NEW = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
#: What files put before the names of a head.
_HEAD_PREFIX = re.compile(r"^(module\.|teacher\.|student\.)?(dino_head\.|head\.)?")


def backbone_from_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors by the names in a folder of transformers (see `load_published_backbone`).

    Raises:
        ValueError: a tensor has no place.
    """
    renamed = {}
    for name, tensor in tensors.items():
        joint = _QKV.fullmatch(name)
        if joint:
            layer, kind = joint.groups()
            for part, rows in zip(_PARTS, tensor.chunk(3), strict=True):
                renamed[f"encoder.layer.{layer}.attention.attention.{part}.{kind}"] = rows.clone()
        else:
            renamed[_translated(name, 0)] = tensor
    return renamed


def backbone_to_published(model: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors of a `Dinov2Model` by their published names."""
    stored = revert_weight_conversion(model, dict(model.state_dict()))
    renamed = {}
    for name, tensor in stored.items():
        first = _PART.fullmatch(name)
        if first:
            layer, kind = first.groups()
            parts = [stored[name.replace("query", part)] for part in _PARTS]
            renamed[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat(parts)
        elif ".attention.attention." not in name:
            renamed[_translated(name, 1)] = tensor.clone()
    return renamed


def load_published_backbone(
    model_class: type[PreTrainedModel], config: PretrainedConfig, tensors: dict[str, Tensor]
) -> PreTrainedModel:
    """A backbone of published tensors. Raises ValueError where they are not just those of the configuration."""
    model, report = model_class.from_pretrained(
        None, config=config, state_dict=backbone_from_published(tensors), output_loading_info=True
    )
    kinds = ("missing_keys", "unexpected_keys", "mismatched_keys")
    wrong = {kind: sorted(map(str, report[kind])) for kind in kinds if report[kind]}
    if wrong:
        raise ValueError(f"these published tensors do not make a {model_class.__name__} of this configuration: {wrong}")
    return model


def head_from_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published head by our names; a prefix and both ways of weight normalisation are taken."""
    renamed = {}
    for name, tensor in tensors.items():
        plain = _HEAD_PREFIX.sub("", name)
        for old, new in _OLD_TO_NEW.items():
            plain = plain.replace(new, old)
        renamed[plain] = tensor
    return renamed


def head_to_parametrized(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a head by the names that `torch.nn.utils.parametrizations.weight_norm` gives."""
    return {
        re.sub(r"weight_[gv]$", lambda found: _OLD_TO_NEW[found.group()], name): tensor
        for name, tensor in tensors.items()
    }


def _translated(name: str, side: int) -> str:
    for pair in _PAIRS:
        pattern = re.escape(pair[side]).replace(r"\{", "{").replace(r"\}", "}")
        for word, values in _WORDS.items():
            pattern = pattern.replace(f"{{{word}}}", f"(?P<{word}>{values})")
        found = re.fullmatch(pattern, name)
        if found:
            return pair[1 - side].format(**found.groupdict())
    raise ValueError(f"{name} is no tensor of a DINOv2 backbone")

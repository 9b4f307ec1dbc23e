"""A backbone by the names of DINOv2's own files, such as RAD-DINO's `backbone_compatible.safetensors`."""

import re

import torch
from transformers import Dinov2Config, Dinov2Model

#: Patterns of published names, and the names in a folder of transformers; the first that fits.
NAMES = (
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"blocks\.(\d+)\.ls([12])\.gamma", r"encoder.layer.\1.layer_scale\2.lambda1"),
    (r"blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"norm\.", "layernorm."),
    (r"", "embeddings."),
)
QKV = re.compile(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)")


def load_published_backbone(config: Dinov2Config, tensors: dict[str, torch.Tensor]) -> Dinov2Model:
    renamed = {}
    for name, tensor in tensors.items():
        joint = QKV.fullmatch(name)
        if joint:
            layer, kind = joint.groups()
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"encoder.layer.{layer}.attention.attention.{part}.{kind}"] = rows.clone()
        else:
            pattern, new = next(pair for pair in NAMES if re.match(pair[0], name))
            renamed[re.sub(f"^{pattern}", new, name)] = tensor
    model, report = Dinov2Model.from_pretrained(None, config=config, state_dict=renamed, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return model

"""Released CheXficient weights: their sizes, and the names of their tensors in transformers.

The names are those of the Hub repository and of `pytorch_model.pth`; sizes are read from the tensors, the number of
attention heads is not in them.
"""

import math
import re
from collections.abc import Iterable, Sequence

import torch
from transformers import BertConfig, Dinov2Config, PretrainedConfig

from .configuration_chexficient import CheXficientConfig
from .released_heads import PROBLEM_TYPES, config_kind, head_kind, head_shapes, infer_head_config

PUBLISHED_HEADS = 12
VISION = "image_encoder.model."
TEXT = "text_encoder.model."
LAYER_SCALES = ("ls1.gamma", "ls2.gamma")

# Released name -> name in a transformers folder. The first pattern that matches the whole name applies.
RENAMES = (
    (r"image_encoder\.model\.cls_token", r"vision_model.embeddings.cls_token"),
    (r"image_encoder\.model\.pos_embed", r"vision_model.embeddings.position_embeddings"),
    (r"image_encoder\.model\.patch_embed\.proj\.(\w+)", r"vision_model.embeddings.patch_embeddings.projection.\1"),
    (r"image_encoder\.model\.blocks\.(\d+)\.(norm[12]|mlp\.fc[12])\.(\w+)", r"vision_model.encoder.layer.\1.\2.\3"),
    (
        r"image_encoder\.model\.blocks\.(\d+)\.attn\.proj\.(\w+)",
        r"vision_model.encoder.layer.\1.attention.output.dense.\2",
    ),
    (r"image_encoder\.model\.blocks\.(\d+)\.ls([12])\.gamma", r"vision_model.encoder.layer.\1.layer_scale\2.lambda1"),
    (r"image_encoder\.model\.norm\.(\w+)", r"vision_model.layernorm.\1"),
    (r"image_projection\.projection\.(\w+)", r"visual_projection.\1"),
    (r"text_projection\.projection\.(\w+)", r"text_projection.\1"),
    (r"text_encoder\.model\.(.+)", r"text_model.\1"),
    (r"logit_scale", r"logit_scale"),
    (r"classification_layer\.(\w+)", r"classifier.\1"),
    (r"decoder\.(.+)", r"decode_head.\1"),
)
# One released tensor holds the rows of query, key and value.
QKV = re.compile(r"image_encoder\.model\.blocks\.(\d+)\.attn\.qkv\.(\w+)")
QKV_TARGET = "vision_model.encoder.layer.{layer}.attention.attention.{part}.{kind}"
QKV_PARTS = ("query", "key", "value")

PROTOTYPES = "prototypes"
# Never used in the forward pass of the released model, and absent from some of its files.
DROPPED = re.compile(
    r"prototypes|prototype_usage|step_count|batch_prototype_updates|batch_update_weight_stats|pending_ema_\w+"
    r"|image_encoder\.model\.mask_token|text_encoder\.model\.pooler\.dense\.\w+"
    r"|text_encoder\.model\.embeddings\.(position_ids|token_type_ids)"
)
# Released heads hold an image projection that they make no use of.
DROPPED_FROM_HEADS = re.compile(rf"{DROPPED.pattern}|image_projection\.projection\.\w+")
# The tensors that tell the sizes of everything else.
VISION_SIZES = {
    "pos_embed": f"{VISION}pos_embed",
    "patch": f"{VISION}patch_embed.proj.weight",
    "vision_mlp": f"{VISION}blocks.0.mlp.fc1.weight",
}
TEXT_SIZES = {
    "words": f"{TEXT}embeddings.word_embeddings.weight",
    "positions": f"{TEXT}embeddings.position_embeddings.weight",
    "types": f"{TEXT}embeddings.token_type_embeddings.weight",
    "text_mlp": f"{TEXT}encoder.layer.0.intermediate.dense.weight",
    "projection": "image_projection.projection.weight",
}


def infer_config(
    tensors: dict[str, torch.Tensor],
    vision_heads: int = PUBLISHED_HEADS,
    text_heads: int = PUBLISHED_HEADS,
    labels: Sequence[str] | None = None,
    problem_type: str = PROBLEM_TYPES[0],
    clip_logits: bool = False,
) -> CheXficientConfig:
    """Read the configuration of a dual encoder or of a head from the shapes of released tensors.

    `labels`, `problem_type` and `clip_logits` are of a head, see `infer_head_config`. Raises ValueError where a tensor
    that tells a size is missing or has another rank, where the heads do not divide the hidden size, or where labels are
    given for a dual encoder.
    """
    kind = head_kind(tensors)
    shape = _sizes(tensors, VISION_SIZES if kind else {**VISION_SIZES, **TEXT_SIZES})
    vision_config = _vision_config(tensors, shape, vision_heads)
    if kind:
        return infer_head_config(tensors, kind, vision_config, labels, problem_type, clip_logits)
    if labels is not None or clip_logits:
        raise ValueError("This is a dual encoder, which has no labels to name and no masks to clip")
    text_hidden = shape["words"][1]
    _check_heads("text", text_hidden, text_heads)
    text_config = BertConfig(
        vocab_size=shape["words"][0],
        hidden_size=text_hidden,
        num_hidden_layers=_count_layers(tensors, f"{TEXT}encoder.layer."),
        num_attention_heads=text_heads,
        intermediate_size=shape["text_mlp"][0],
        max_position_embeddings=shape["positions"][0],
        type_vocab_size=shape["types"][0],
    )
    return CheXficientConfig(vision_config, text_config, projection_dim=shape["projection"][0])


def expected_shapes(config: CheXficientConfig) -> dict[str, tuple[int, ...]]:
    """Released name -> shape of every tensor that a model of this configuration reads from a released file."""
    vision, text, width = config.vision_config, config.text_config, config.projection_dim
    shapes = {VISION + name: shape for name, shape in _vision_shapes(vision).items()}
    if kind := config_kind(config):
        return shapes | head_shapes(config, kind)
    shapes |= {"logit_scale": ()}
    shapes |= _linear("image_projection.projection", vision.hidden_size, width)
    shapes |= _linear("text_projection.projection", text.hidden_size, width)
    shapes |= {TEXT + name: shape for name, shape in _text_shapes(text).items()}
    return shapes


def dropped_tensors(names: Iterable[str], config: CheXficientConfig) -> list[str]:
    """Which released tensors a model of this configuration makes no use of."""
    dropped = DROPPED_FROM_HEADS if config_kind(config) else DROPPED
    return sorted(name for name in names if dropped.fullmatch(name))


def check_tensors(tensors: dict[str, torch.Tensor], config: CheXficientConfig) -> None:
    """Raise one ValueError that names every missing, unexpected, misshapen and non-finite tensor."""
    expected, dropped = expected_shapes(config), dropped_tensors(tensors, config)
    kept = {name: tensor for name, tensor in tensors.items() if name not in dropped}
    missing = [name for name in expected if name not in kept]
    if not has_layer_scale(tensors):
        missing = [name for name in missing if not name.endswith(LAYER_SCALES)]
    problems = {
        "missing": missing,
        "unexpected": [name for name in kept if name not in expected],
        "misshapen": [
            f"{name} {tuple(kept[name].shape)} instead of {shape}"
            for name, shape in expected.items()
            if name in kept and tuple(kept[name].shape) != shape
        ],
        "not finite": [name for name, tensor in kept.items() if not torch.isfinite(tensor).all()],
    }
    lines = [f"{kind}: {', '.join(sorted(names))}" for kind, names in problems.items() if names]
    if lines:
        raise ValueError("The tensors do not fit a CheXficient model.\n" + "\n".join(lines))


def has_layer_scale(tensors: dict[str, torch.Tensor]) -> bool:
    """Whether the image tower was trained with LayerScale."""
    return any(name.startswith(VISION) and name.endswith(LAYER_SCALES) for name in tensors)


def rename_tensors(tensors: dict[str, torch.Tensor], config: CheXficientConfig) -> dict[str, torch.Tensor]:
    """Released tensors under the names of a transformers folder, in fp32; expects what `check_tensors` accepts."""
    renamed: dict[str, torch.Tensor] = {}
    dropped = dropped_tensors(tensors, config)
    for name, tensor in tensors.items():
        if name in dropped:
            continue
        # The counter of a batch normalisation stays a whole number.
        tensor = tensor.to(torch.float32) if tensor.is_floating_point() else tensor
        if match := QKV.fullmatch(name):
            layer, kind = match.groups()
            for part, rows in zip(QKV_PARTS, tensor.chunk(3), strict=True):
                renamed[QKV_TARGET.format(layer=layer, part=part, kind=kind)] = rows.contiguous()
        else:
            renamed[_new_name(name)] = tensor
    if not has_layer_scale(tensors):
        # A tower without LayerScale is one whose every factor is 1.
        ones = {name: shape for name, shape in expected_shapes(config).items() if name.endswith(LAYER_SCALES)}
        renamed |= {_new_name(name): torch.ones(shape) for name, shape in ones.items()}
    return renamed


def _sizes(tensors: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that tell sizes. Raises ValueError where one is missing or has another rank."""
    missing = [name for name in names.values() if name not in tensors]
    if missing:
        raise ValueError(f"Not a released CheXficient checkpoint, missing tensors: {', '.join(missing)}")
    shape = {key: tuple(tensors[name].shape) for key, name in names.items()}
    ranks = {"pos_embed": 3, "patch": 4}
    wrong = [f"{names[key]} {size}" for key, size in shape.items() if len(size) != ranks.get(key, 2)]
    if wrong:
        raise ValueError(f"Not a released CheXficient checkpoint, unexpected shapes: {', '.join(wrong)}")
    return shape


def _vision_config(tensors: dict[str, torch.Tensor], shape: dict[str, tuple[int, ...]], heads: int) -> Dinov2Config:
    hidden, channels, patch, _ = shape["patch"]
    grid = math.isqrt(max(shape["pos_embed"][1] - 1, 0))
    if grid < 1 or grid**2 != shape["pos_embed"][1] - 1:
        raise ValueError(f"{VISION_SIZES['pos_embed']} {shape['pos_embed']} is not one CLS token and a square grid")
    ratio, rest = divmod(shape["vision_mlp"][0], hidden)
    if rest:
        raise ValueError(
            f"{VISION_SIZES['vision_mlp']} {shape['vision_mlp']}: not a whole multiple of the hidden size {hidden}"
        )
    _check_heads("vision", hidden, heads)
    return Dinov2Config(
        hidden_size=hidden,
        num_hidden_layers=_count_layers(tensors, f"{VISION}blocks."),
        num_attention_heads=heads,
        mlp_ratio=ratio,
        image_size=grid * patch,
        patch_size=patch,
        num_channels=channels,
    )


def _check_heads(tower: str, hidden: int, heads: int) -> None:
    if heads < 1 or hidden % heads:
        raise ValueError(
            f"{heads} {tower} heads do not divide the hidden size {hidden}: pass --{tower}-heads (the number of heads "
            "is not in the tensors)"
        )


def _count_layers(tensors: dict[str, torch.Tensor], prefix: str) -> int:
    numbers = {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    return max(int(number) for number in numbers if number.isdigit()) + 1


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _vision_shapes(config: PretrainedConfig) -> dict[str, tuple[int, ...]]:
    hidden, patch = config.hidden_size, config.patch_size
    shapes = {
        "cls_token": (1, 1, hidden),
        "pos_embed": (1, 1 + (config.image_size // patch) ** 2, hidden),
        "patch_embed.proj.weight": (hidden, config.num_channels, patch, patch),
        "patch_embed.proj.bias": (hidden,),
    }
    for layer in range(config.num_hidden_layers):
        block = f"blocks.{layer}"
        shapes |= _norm(f"{block}.norm1", hidden) | _norm(f"{block}.norm2", hidden)
        shapes |= _linear(f"{block}.attn.qkv", hidden, 3 * hidden) | _linear(f"{block}.attn.proj", hidden, hidden)
        shapes |= {f"{block}.{scale}": (hidden,) for scale in LAYER_SCALES}
        shapes |= _linear(f"{block}.mlp.fc1", hidden, config.mlp_ratio * hidden)
        shapes |= _linear(f"{block}.mlp.fc2", config.mlp_ratio * hidden, hidden)
    return shapes | _norm("norm", hidden)


def _text_shapes(config: PretrainedConfig) -> dict[str, tuple[int, ...]]:
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, hidden),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, hidden),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
    }
    shapes |= _norm("embeddings.LayerNorm", hidden)
    for layer in range(config.num_hidden_layers):
        block = f"encoder.layer.{layer}"
        for part in QKV_PARTS:
            shapes |= _linear(f"{block}.attention.self.{part}", hidden, hidden)
        shapes |= _linear(f"{block}.attention.output.dense", hidden, hidden)
        shapes |= _norm(f"{block}.attention.output.LayerNorm", hidden)
        shapes |= _linear(f"{block}.intermediate.dense", hidden, config.intermediate_size)
        shapes |= _linear(f"{block}.output.dense", config.intermediate_size, hidden)
        shapes |= _norm(f"{block}.output.LayerNorm", hidden)
    return shapes


def _new_name(name: str) -> str:
    for pattern, replacement in RENAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    raise KeyError(name)

"""Released CheXficient weights: reading them safely, their sizes, and the names of their tensors in transformers.

The names are those of the Hub repository and of `pytorch_model.pth`; sizes are read from the tensors, the number of
attention heads is not in them.
"""

import json
import math
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import BertConfig, Dinov2Config

from .configuration_chexficient import CheXficientConfig

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
# The tensors that tell the sizes of everything else.
SIZE_TENSORS = {
    "pos_embed": f"{VISION}pos_embed",
    "patch": f"{VISION}patch_embed.proj.weight",
    "vision_mlp": f"{VISION}blocks.0.mlp.fc1.weight",
    "words": f"{TEXT}embeddings.word_embeddings.weight",
    "positions": f"{TEXT}embeddings.position_embeddings.weight",
    "types": f"{TEXT}embeddings.token_type_embeddings.weight",
    "text_mlp": f"{TEXT}encoder.layer.0.intermediate.dense.weight",
    "projection": "image_projection.projection.weight",
}
# Plain numbers that numpy computed (a best score) are pickled by these names; none of them runs foreign code.
NUMPY_NUMBERS = [
    np.dtype,
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]


@dataclass
class ReleasedCheckpoint:
    """What a released file holds: tensors by their released names, and the ids of the curated subset if stored."""

    tensors: dict[str, torch.Tensor]
    subset: list[int] | None = None


def load_released(source: Path | str) -> ReleasedCheckpoint:
    """Read released weights from a file or folder without running any code in them.

    Raises FileNotFoundError where there is nothing to read and ValueError, naming the file, where it is not a
    checkpoint of tensors.
    """
    path = _weight_file(Path(source))
    if path.name.endswith(".index.json"):
        weight_map = json.loads(path.read_text()).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ValueError(f"{path} has no weight_map that names the shards")
        shards = sorted(set(weight_map.values()))
        tensors: dict[str, torch.Tensor] = {}
        for shard in shards:
            tensors.update(_load_safetensors(path.parent / shard))
        return ReleasedCheckpoint(tensors)
    if path.suffix == ".safetensors":
        return ReleasedCheckpoint(_load_safetensors(path))
    return _from_pickle(_load_pickle(path), path)


def infer_config(
    tensors: dict[str, torch.Tensor], vision_heads: int = PUBLISHED_HEADS, text_heads: int = PUBLISHED_HEADS
) -> CheXficientConfig:
    """Read the configuration from the shapes of released tensors.

    Raises ValueError where a tensor that tells a size is missing or has another rank, or where the heads do not divide
    the hidden size.
    """
    missing = [name for name in SIZE_TENSORS.values() if name not in tensors]
    if missing:
        raise ValueError(f"Not a released CheXficient checkpoint, missing tensors: {', '.join(missing)}")
    shape = {key: tuple(tensors[name].shape) for key, name in SIZE_TENSORS.items()}
    ranks = {"pos_embed": 3, "patch": 4}
    wrong = [f"{SIZE_TENSORS[key]} {size}" for key, size in shape.items() if len(size) != ranks.get(key, 2)]
    if wrong:
        raise ValueError(f"Not a released CheXficient checkpoint, unexpected shapes: {', '.join(wrong)}")
    vision_config = _vision_config(tensors, shape, vision_heads)
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
    shapes: dict[str, tuple[int, ...]] = {"logit_scale": ()}
    shapes |= _linear("image_projection.projection", vision.hidden_size, width)
    shapes |= _linear("text_projection.projection", text.hidden_size, width)
    shapes |= {VISION + name: shape for name, shape in _vision_shapes(vision).items()}
    shapes |= {TEXT + name: shape for name, shape in _text_shapes(text).items()}
    return shapes


def check_tensors(tensors: dict[str, torch.Tensor], config: CheXficientConfig) -> None:
    """Raise one ValueError that names every missing, unexpected, misshapen and non-finite tensor."""
    expected = expected_shapes(config)
    kept = {name: tensor for name, tensor in tensors.items() if not DROPPED.fullmatch(name)}
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
    for name, tensor in tensors.items():
        if DROPPED.fullmatch(name):
            continue
        tensor = tensor.to(torch.float32)
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


def _weight_file(source: Path) -> Path:
    if source.is_file():
        return source
    names = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.pth")
    found = [source / name for name in names if (source / name).is_file()]
    if not found:
        raise FileNotFoundError(f"{source} is neither a file nor a folder with one of {', '.join(names)}")
    return found[0]


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is named by the index, but is not there")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error


def _load_pickle(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(NUMPY_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:
        # Whatever bytes are no checkpoint make the unpickler fail in any way (KeyError, IndexError ...). Of the
        # reason only the first sentence: torch goes on to advise loading it all the same.
        reason = str(error).split(". ")[0] or type(error).__name__
        raise ValueError(
            f"{path} is not a checkpoint of plain tensors and numbers; it was not loaded, because a pickle can run any "
            f"code. ({reason})"
        ) from error


def _from_pickle(content: object, path: Path) -> ReleasedCheckpoint:
    subset = None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        subset = content.get("subset")
        content = content["model"]
    entries = content.items() if isinstance(content, dict) else [(None, None)]
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in entries):
        raise ValueError(f"{path} holds neither a state dict nor a dict with one under 'model'")
    if subset is not None:
        if not isinstance(subset, (set, list, tuple)) or not all(isinstance(one, int) for one in subset):
            raise ValueError(f"{path}: 'subset' is not a collection of whole numbers")
        subset = sorted(subset)
    return ReleasedCheckpoint(dict(content), subset)


def _vision_config(tensors: dict[str, torch.Tensor], shape: dict[str, tuple[int, ...]], heads: int) -> Dinov2Config:
    hidden, channels, patch, _ = shape["patch"]
    grid = math.isqrt(max(shape["pos_embed"][1] - 1, 0))
    if grid < 1 or grid**2 != shape["pos_embed"][1] - 1:
        raise ValueError(f"{SIZE_TENSORS['pos_embed']} {shape['pos_embed']} is not one CLS token and a square grid")
    ratio, rest = divmod(shape["vision_mlp"][0], hidden)
    if rest:
        raise ValueError(
            f"{SIZE_TENSORS['vision_mlp']} {shape['vision_mlp']}: not a whole multiple of the hidden size {hidden}"
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


def _vision_shapes(config: Dinov2Config) -> dict[str, tuple[int, ...]]:
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


def _text_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
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

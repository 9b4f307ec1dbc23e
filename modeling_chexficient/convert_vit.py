"""Turn a masked autoencoder's ViT with timm's tensor names into a folder that transformers' Auto classes load.

    python -m modeling_chexficient.convert_vit MRM.pth converted/
    python -m modeling_chexficient.convert_vit CXR_MAE.pth converted/ --normalisation cxr_mae

For the encoders of MRM (arXiv 2301.13155) and CXR-MAE (arXiv 2210.12843), and any plain ViT in the names of timm: the
tensors tell. Sizes are read from them; the number of attention heads is not in them. The encoder alone is written, as
a `ViTModel` with its image processor: `train.adapt --model converted` puts a head on it (`--image_pooling patches` is
what these encoders are adapted with). Decoders, text towers and heads are left out and listed.
"""

import argparse
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from transformers import ViTConfig, ViTModel

from .image_processing_chexficient import CheXficientImageProcessor
from .released_files import load_released

#: Mean and standard deviation that films of 0 to 1 are normalised by, as arXiv 2401.12215 feeds the encoders.
NORMALISATIONS = {"mrm": (0.4978, 0.2449), "cxr_mae": (0.4785, 0.2834)}
#: timm's name -> name in transformers, within a block.
IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")
#: timm's ViT-B has as many; the tensors do not tell.
HEADS = 12


@dataclass
class ConvertedViT:
    """Where the folder was written, the model, and the tensors that are no part of it."""

    folder: Path
    model: ViTModel
    dropped: list[str] = field(default_factory=list)


def infer_vit_config(tensors: dict[str, torch.Tensor], heads: int = HEADS) -> ViTConfig:
    """The configuration of the encoder among tensors with timm's names.

    Raises:
        ValueError: a tensor that tells a size is missing or misshapen, or the heads do not divide the width.
    """
    missing = sorted({*OUTSIDE, "blocks.0.mlp.fc1.weight"} - tensors.keys())
    if missing:
        hint = " (fc_norm in place of norm: a fine-tuned classifier)" if "fc_norm.weight" in tensors else ""
        raise ValueError(f"not a plain ViT in timm's names, these are missing: {', '.join(missing)}{hint}")
    if tensors["patch_embed.proj.weight"].ndim != 4 or tensors["pos_embed"].ndim != 3:
        raise ValueError("patch_embed.proj.weight or pos_embed is not shaped as a ViT's")
    width, channels, patch, _ = tensors["patch_embed.proj.weight"].shape
    side = math.isqrt(tensors["pos_embed"].shape[1] - 1)
    if side * side + 1 != tensors["pos_embed"].shape[1]:
        raise ValueError(f"pos_embed {tuple(tensors['pos_embed'].shape)} is not one CLS token and a square grid")
    if width % heads:
        raise ValueError(f"{heads} heads do not divide the width {width}: give --heads")
    blocks = {int(match[1]) for name in tensors if (match := BLOCK.fullmatch(name))}
    return ViTConfig(
        hidden_size=width,
        num_hidden_layers=max(blocks) + 1,
        num_attention_heads=heads,
        intermediate_size=tensors["blocks.0.mlp.fc1.weight"].shape[0],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-6,
        image_size=side * patch,
        patch_size=patch,
        num_channels=channels,
        qkv_bias="blocks.0.attn.qkv.bias" in tensors,
    )


def rename_vit(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The encoder's tensors under transformers' names, in fp32, and the names of all others."""
    renamed, dropped = {}, []
    for name, tensor in tensors.items():
        match = BLOCK.fullmatch(name)
        if name in OUTSIDE:
            renamed[OUTSIDE[name]] = tensor.float()
        elif match and match[2] == "attn.qkv":
            # One tensor holds the rows of query, key and value.
            for part, rows in zip("qkv", tensor.float().chunk(3), strict=True):
                renamed[f"layers.{match[1]}.attention.{part}_proj.{match[3]}"] = rows.contiguous()
        elif match and match[2] in IN_BLOCK:
            renamed[f"layers.{match[1]}.{IN_BLOCK[match[2]]}.{match[3]}"] = tensor.float()
        else:
            dropped.append(name)
    return renamed, sorted(dropped)


def build_vit(tensors: dict[str, torch.Tensor], heads: int = HEADS) -> tuple[ViTModel, list[str]]:
    """The encoder, and the names of the tensors that are no part of it.

    Raises:
        ValueError: tensors of the encoder are missing, misshapen, not finite, or of a ViT that is not plain (LayerScale
            and the like), all named.
    """
    config = infer_vit_config(tensors, heads)
    renamed, dropped = rename_vit(tensors)
    model = ViTModel(config, add_pooling_layer=False)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = {
        "missing": wanted.keys() - renamed.keys(),
        "unexpected": {*(renamed.keys() - wanted.keys()), *(name for name in dropped if name.startswith("blocks."))},
        "misshapen": {name for name in wanted.keys() & renamed.keys() if tuple(renamed[name].shape) != wanted[name]},
        "not finite": {name for name, tensor in renamed.items() if not torch.isfinite(tensor).all()},
    }
    lines = [f"{kind}: {', '.join(sorted(names))}" for kind, names in problems.items() if names]
    if lines:
        raise ValueError("the tensors do not fit a plain ViT.\n" + "\n".join(lines))
    model.load_state_dict(renamed)
    return model.eval(), dropped


def convert_vit(
    source: Path | str, destination: Path | str, normalisation: str = "mrm", heads: int = HEADS
) -> ConvertedViT:
    """Convert a checkpoint into a folder; see the module.

    Args:
        source: .pth or .safetensors file with a state dict, bare or under "model".
        destination: a new folder.
        normalisation: of `NORMALISATIONS`.
        heads: attention heads of the encoder.

    Raises:
        FileExistsError: the destination holds files. Nothing is written before all of the input has been checked.
        OSError, ValueError: there is no such file, it is no checkpoint of plain tensors, or no plain ViT.
    """
    destination = Path(destination)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise FileExistsError(f"{destination} exists and is not an empty folder: name a new one")
    mean, deviation = NORMALISATIONS[normalisation]
    model, dropped = build_vit(load_released(source).tensors, heads)
    # A square, so a number.
    side = cast(int, model.config.image_size)
    processor = CheXficientImageProcessor(side, image_mean=[mean] * 3, image_std=[deviation] * 3)
    model.save_pretrained(destination)
    processor.save_pretrained(destination)
    return ConvertedViT(destination, model, dropped)


def main(arguments: list[str] | None = None) -> None:
    """Command line of the conversion."""
    parser = argparse.ArgumentParser(
        prog="python -m modeling_chexficient.convert_vit", description=__doc__.splitlines()[0]
    )
    parser.add_argument("source", metavar="SRC", help=".pth or .safetensors file")
    parser.add_argument("destination", metavar="DST", help="new folder")
    parser.add_argument(
        "--normalisation", choices=sorted(NORMALISATIONS), default="mrm", help="of films; default: %(default)s"
    )
    parser.add_argument("--heads", type=int, default=HEADS, help="attention heads; default: %(default)s")
    try:
        converted = convert_vit(**vars(parser.parse_args(arguments)))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    config = converted.model.config
    print(
        f"Wrote {converted.folder}: ViT, {config.num_hidden_layers} layers x {config.hidden_size}, "
        f"{config.num_attention_heads} heads, {config.image_size} px, patch {config.patch_size}"
    )
    if converted.dropped:
        print(f"  not part of the encoder: {', '.join(converted.dropped)}")


if __name__ == "__main__":
    main()

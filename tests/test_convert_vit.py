"""Encoders of masked autoencoders in timm's names: the same features after conversion, and nothing else is taken."""

import argparse

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel

from modeling_chexficient.convert_vit import build_vit, convert_vit, main

WIDTH, DEPTH, HEADS, PATCH, SIDE = 24, 2, 3, 8, 32


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """A small encoder in timm's names, with the decoder and text tower that such checkpoints bring."""
    generator = torch.Generator().manual_seed(seed)

    def linear(name: str, rows: int, columns: int) -> dict[str, torch.Tensor]:
        made = {"weight": torch.randn(rows, columns, generator=generator) / columns**0.5}
        made["bias"] = torch.randn(rows, generator=generator) * 0.1
        return {f"{name}.{kind}": tensor for kind, tensor in made.items()}

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": torch.rand(WIDTH, generator=generator) + 0.5, f"{name}.bias": torch.randn(WIDTH)}

    made = {
        "cls_token": torch.randn(1, 1, WIDTH, generator=generator),
        "pos_embed": torch.randn(1, 1 + (SIDE // PATCH) ** 2, WIDTH, generator=generator),
        "patch_embed.proj.weight": torch.randn(WIDTH, 3, PATCH, PATCH, generator=generator) / 14,
        "patch_embed.proj.bias": torch.randn(WIDTH, generator=generator),
        "mask_token": torch.zeros(1, 1, WIDTH),
    }
    for number in range(DEPTH):
        block = f"blocks.{number}"
        made |= norm(f"{block}.norm1") | linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH)
        made |= linear(f"{block}.attn.proj", WIDTH, WIDTH) | norm(f"{block}.norm2")
        made |= linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
    return made | norm("norm") | linear("decoder_embed", 8, WIDTH) | linear("bert_encoder.dense", 8, 8)


def published_forward(given: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """Last states [B, 1 + patches, C] as a plain ViT computes them (arXiv 2010.11929), written out."""

    def normed(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), given[f"{name}.weight"], given[f"{name}.bias"], 1e-6)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, given[f"{name}.weight"], given[f"{name}.bias"])

    patches = F.conv2d(pixels, given["patch_embed.proj.weight"], given["patch_embed.proj.bias"], stride=PATCH)
    x = torch.cat([given["cls_token"].expand(len(pixels), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
    x = x + given["pos_embed"]
    for number in range(DEPTH):
        block = f"blocks.{number}"
        q, k, v = linear(f"{block}.attn.qkv", normed(f"{block}.norm1", x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
        weights = (q @ k.transpose(-2, -1) / (WIDTH // HEADS) ** 0.5).softmax(-1)
        x = x + linear(f"{block}.attn.proj", (weights @ v).transpose(1, 2).flatten(2))
        hidden = F.gelu(linear(f"{block}.mlp.fc1", normed(f"{block}.norm2", x)))
        x = x + linear(f"{block}.mlp.fc2", hidden)
    return normed("norm", x)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["bare", "model", "with arguments"])
def test_the_same_states_from_the_folder(tmp_path, capsys, layout):
    given = tensors()
    content = {"bare": given, "model": {"model": given}}
    # As a training script leaves it: the arguments lie beside the weights.
    content["with arguments"] = {"model": given, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(content[layout], tmp_path / "vit.pth")
    main([str(tmp_path / "vit.pth"), str(tmp_path / "out"), "--heads", "3", "--normalisation", "cxr_mae"])
    printed = capsys.readouterr().out
    assert "2 layers x 24, 3 heads, 32 px, patch 8" in printed
    assert "not part of the encoder: bert_encoder.dense.bias" in printed
    model = AutoModel.from_pretrained(tmp_path / "out", add_pooling_layer=False).eval()
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        model(pixel_values=pixels).last_hidden_state, published_forward(given, pixels), atol=1e-5, rtol=1e-5
    )
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out", backend="pil")
    assert (processor.image_mean, processor.image_std) == ([0.4785] * 3, [0.2834] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given.pop("norm.weight"), "these are missing: norm.weight"),
        (lambda given: given.pop("blocks.1.mlp.fc2.bias"), "missing: layers.1.mlp.fc2.bias"),
        (lambda given: given.update({"blocks.0.ls1.gamma": torch.ones(WIDTH)}), "unexpected: blocks.0.ls1.gamma"),
        (lambda given: given.update({"blocks.0.norm1.bias": torch.zeros(3)}), "misshapen: layers.0.layernorm_before"),
        (lambda given: given["cls_token"].fill_(torch.nan), "not finite: embeddings.cls_token"),
        (lambda given: given.update({"pos_embed": torch.zeros(1, 19, WIDTH)}), "square grid"),
        (lambda given: given.clear(), "not a plain ViT in timm's names"),
        (
            lambda given: given.update({f"fc_norm.{kind}": given.pop(f"norm.{kind}") for kind in ("weight", "bias")}),
            "fc_norm in place of norm: a fine-tuned classifier",
        ),
    ],
)
def test_what_is_no_plain_vit_is_refused_by_name(change, message):
    given = tensors()
    change(given)
    with pytest.raises(ValueError, match=message):
        build_vit(given, HEADS)


def test_heads_and_places_are_checked(tmp_path):
    torch.save(tensors(), tmp_path / "vit.pth")
    with pytest.raises(ValueError, match="5 heads do not divide the width 24: give --heads"):
        convert_vit(tmp_path / "vit.pth", tmp_path / "out", heads=5)
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SystemExit, match="not an empty folder"):
        main([str(tmp_path / "vit.pth"), str(tmp_path / "full")])
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "module.pth")
    with pytest.raises(SystemExit, match="not a checkpoint of plain tensors"):
        main([str(tmp_path / "module.pth"), str(tmp_path / "other")])

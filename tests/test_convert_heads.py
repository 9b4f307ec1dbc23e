"""Conversion of released heads: parity with the published implementation, kinds told by tensors, and refusals.

`golden/released_unet_tiny.pth` has the layout of a released U-Net and random weights of a small model;
`golden/released_unet_tiny_expected.safetensors` holds what the published code computes with them. A folder with more of
the same kind (`classification.pth`, `segmentation.pth`, `expected_heads.pt`) may be named by CHEXFICIENT_REFERENCE.
"""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSemanticSegmentation,
)

from modeling_chexficient import CheXficientForImageClassification, CheXficientForSemanticSegmentation
from modeling_chexficient.convert_checkpoint import convert, main
from modeling_chexficient.released_files import load_released
from modeling_chexficient.released_weights import check_tensors, infer_config

GOLDEN = Path(__file__).parent / "golden"
UNET = GOLDEN / "released_unet_tiny.pth"
REFERENCE = os.environ.get("CHEXFICIENT_REFERENCE")
PROJECTION = ["image_projection.projection.bias", "image_projection.projection.weight"]


@pytest.fixture(scope="module")
def unet() -> dict[str, torch.Tensor]:
    return load_released(UNET).tensors


@pytest.fixture(scope="module")
def probe(unet) -> dict[str, torch.Tensor]:
    """The same tower with a linear probe of four classes."""
    torch.manual_seed(0)
    tower = {name: tensor for name, tensor in unet.items() if not name.startswith("decoder.")}
    layer = {"classification_layer.weight": torch.randn(4, 48), "classification_layer.bias": torch.randn(4)}
    return tower | layer


@pytest.fixture(scope="module")
def probe_file(probe, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("released") / "probe.pth"
    torch.save(probe, path)
    return path


@torch.no_grad()
def test_unet_equals_the_published_implementation(tmp_path):
    expected = load_file(GOLDEN / "released_unet_tiny_expected.safetensors")
    converted = convert(UNET, tmp_path / "unet", vision_heads=3, clip_logits=True)
    assert [name for name in converted.dropped if "mask_token" not in name] == PROJECTION
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "unet")
    assert isinstance(model, CheXficientForSemanticSegmentation)
    logits = model(expected["pixel_values"]).logits
    torch.testing.assert_close(logits, expected["segmentation_logits"], rtol=0, atol=1e-5)
    # Without the last GELU the logits go below its minimum of -0.17, and the clipped ones follow from them.
    free = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "unet", clip_logits=False)
    maps = free(expected["pixel_values"]).logits
    assert logits.min() > -0.17
    assert maps.min() < -0.2


@torch.no_grad()
@pytest.mark.skipif(REFERENCE is None, reason="CHEXFICIENT_REFERENCE names no folder of published outputs")
@pytest.mark.parametrize("kind", ["classification", "segmentation"])
def test_heads_equal_the_published_implementation(kind, tmp_path):
    expected = torch.load(Path(REFERENCE) / "expected_heads.pt", weights_only=True)
    clip = kind == "segmentation"
    model = convert(Path(REFERENCE) / f"{kind}.pth", tmp_path / "head", vision_heads=3, clip_logits=clip).model
    logits = AutoModel.from_pretrained(tmp_path / "head")(expected["pixel_values"]).logits
    torch.testing.assert_close(logits, expected[f"{kind}_logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.eval()(expected["pixel_values"]).logits, logits)


@torch.no_grad()
def test_probe_sees_the_feature_at_unit_length(probe, probe_file, tmp_path):
    labels = ["edema", "effusion", "mass", "nodule"]
    convert(probe_file, tmp_path / "probe", vision_heads=3, labels=labels)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "probe")
    assert isinstance(model, CheXficientForImageClassification)
    assert model.config.id2label == dict(enumerate(labels))
    assert model.config.label2id["mass"] == 2
    assert model.config.problem_type == "multi_label_classification"
    pixels = torch.randn(2, 3, 56, 56)
    cls = model.vision_model(pixels).last_hidden_state[:, 0]
    weight, bias = probe["classification_layer.weight"], probe["classification_layer.bias"]
    torch.testing.assert_close(model(pixels).logits, F.linear(F.normalize(cls, dim=1), weight, bias))
    assert AutoImageProcessor.from_pretrained(tmp_path / "probe").size == {"shortest_edge": 56}


def test_command_line_names_kind_and_labels(probe_file, tmp_path, capsys):
    main([str(probe_file), str(tmp_path / "a"), "--vision-heads", "3", "--problem-type", "single_label_classification"])
    printed = capsys.readouterr().out
    assert "CheXficientForImageClassification" in printed
    assert "head: single_label_classification, LABEL_0, LABEL_1, LABEL_2, LABEL_3" in printed
    assert f"not part of the model: image_encoder.model.mask_token, {', '.join(PROJECTION)}" in printed
    main([str(UNET), str(tmp_path / "b"), "--vision-heads", "3", "--labels", "lungs, heart,tubes"])
    assert "head: multi_label_classification, lungs, heart, tubes" in capsys.readouterr().out
    assert AutoModel.from_pretrained(tmp_path / "b").config.clip_logits is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["a", "b"]}, "The head has 4 classes: name each of them once, not a, b"),
        ({"labels": ["a", "b", "b", "c"]}, "name each of them once"),
        ({"tokenizer": "bert"}, "it reads no text and takes no tokenizer"),
        ({"clip_logits": True}, "Only the logits of a U-Net can be clipped"),
        ({"problem_type": "regression"}, "problem_type must be one of"),
        ({"vision_heads": 5}, "5 vision heads do not divide"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(probe_file, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        convert(probe_file, tmp_path / "out", **{"vision_heads": 3, **arguments})
    assert not (tmp_path / "out").exists()


def test_a_dual_encoder_has_no_labels(tmp_path):
    with pytest.raises(ValueError, match="dual encoder, which has no labels"):
        convert(GOLDEN / "released_tiny.pth", tmp_path / "out", None, 3, 3, labels=["a"])


def test_every_wrong_tensor_is_named_in_one_error(unet):
    config = infer_config(unet, vision_heads=3)
    check_tensors(unet, config)
    tensors = dict(unet)
    del tensors["decoder.up2.upconv.bias"]
    tensors["decoder.up5.upconv.bias"] = torch.zeros(1)
    tensors["text_projection.projection.bias"] = torch.zeros(1)
    tensors["decoder.up1.conv.0.weight"] = torch.zeros(24, 47, 3, 3)
    tensors["decoder.up3.conv.1.running_var"] = torch.full((6,), math.nan)
    with pytest.raises(ValueError, match="do not fit") as raised:
        check_tensors(tensors, config)
    assert str(raised.value).splitlines()[1:] == [
        "missing: decoder.up2.upconv.bias",
        "unexpected: decoder.up5.upconv.bias, text_projection.projection.bias",
        "misshapen: decoder.up1.conv.0.weight (24, 47, 3, 3) instead of (24, 48, 3, 3)",
        "not finite: decoder.up3.conv.1.running_var",
    ]


def test_heads_without_their_classes_are_named(unet, probe):
    for tensors, name in ((unet, "decoder.up4.conv.0.weight"), (probe, "classification_layer.weight")):
        rest = {key: tensor for key, tensor in tensors.items() if key != name}
        with pytest.raises(ValueError, match=f"missing tensors: {name}"):
            infer_config(rest, vision_heads=3)
    with pytest.raises(ValueError, match=r"missing tensors: image_encoder\.model\.pos_embed"):
        infer_config({"classification_layer.weight": torch.zeros(2, 48)}, vision_heads=3)

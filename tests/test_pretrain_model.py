"""What `train.pretrain` starts from: a whole model, or two towers, each pretrained or new."""

import json

import pytest
import torch
from transformers import AutoModel, BertConfig

from eval.records.runs import Run
from modeling_chexficient import CheXficientModel
from modeling_chexficient.base_identity_chexficient import weights_sha256
from tests.adaptation import SIDE, TOWERS, save_base
from tests.tiny_models import tiny_tokenizer
from train.pretrain.__main__ import main
from train.pretrain.arguments import ModelArguments
from train.pretrain.model import build_model, build_tokenizer

TEXT = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=64)


@pytest.fixture(scope="module", params=["dinov2", "resnet"])
def whole(request, tmp_path_factory) -> str:
    return str(save_base(tmp_path_factory.mktemp("whole") / request.param, request.param))


def build(**given) -> CheXficientModel:
    arguments = ModelArguments(**{"max_text_length": 32, **given})
    return build_model(arguments, build_tokenizer(arguments, ["no edema"]), seed=0)


def test_a_whole_model_goes_on_at_another_image_size(whole):
    arguments = ModelArguments(model=whole, image_size=2 * SIDE, max_text_length=32)
    tokenizer = build_tokenizer(arguments, [])
    model, own = build_model(arguments, tokenizer, 0).eval(), build(model=whole).eval()
    pixels = torch.randn(2, 3, 2 * SIDE, 2 * SIDE)
    with torch.no_grad():
        # A ViT would interpolate at every image, to the same values.
        expected, got = (one.get_image_features(pixel_values=pixels) for one in (own, model))
    expected, got = (getattr(one, "pooler_output", one) for one in (expected, got))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    if "dinov2" in whole:
        assert model.config.vision_config.image_size == 2 * SIDE
        with pytest.raises(ValueError, match="image_size 57 is no multiple of the patch size 14"):
            build(model=whole, image_size=57)


def test_a_whole_model_brings_its_image_size_and_space(whole):
    arguments = ModelArguments(model=whole, max_text_length=32)
    model = build_model(arguments, build_tokenizer(arguments, []), 0)
    assert arguments.image_size == SIDE
    for name, value in (("projection_dim", 512), ("text_pooling", "cls"), ("logit_scale_init_value", 1.0)):
        with pytest.raises(ValueError, match=f"{name} is {value}, but .* was trained with .*: leave {name} out"):
            build(model=whole, **{name: value})
        build(model=whole, **{name: getattr(model.config, name)})


def test_a_run_tells_what_it_went_on_from(tiny_corpus, tmp_path):
    base = str(save_base(tmp_path / "base", "resnet"))
    words = ["--model", base, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "run"), "--use_cpu"]
    words += [
        "--selection",
        "none",
        "--max_steps",
        "1",
        "--per_device_train_batch_size",
        "4",
        "--max_text_length",
        "32",
    ]
    main([*words, "--dataloader_pin_memory", "false"])
    run = Run.load(tmp_path / "run")
    assert (run.start, run.start_sha256) == (base, weights_sha256(base))
    assert weights_sha256(tmp_path / "run" / "model") != run.start_sha256


def test_towers_have_the_published_space_by_default():
    towers = {"vision_config": TOWERS["dinov2"].to_dict(), "text_config": TEXT.to_dict()}
    arguments = ModelArguments(**towers)
    assert (arguments.image_size, arguments.projection_dim, arguments.text_pooling) == (378, 512, "eos")
    assert arguments.logit_scale_init_value == pytest.approx(4.60517, abs=1e-5)


@pytest.mark.parametrize("kind", TOWERS)
def test_a_pretrained_tower_goes_with_a_new_one(kind, tmp_path):
    vision, text = str(tmp_path / "vision"), str(tmp_path / "text")
    AutoModel.from_config(TOWERS[kind]).save_pretrained(vision)
    AutoModel.from_config(TEXT).save_pretrained(text)
    tiny_tokenizer().save_pretrained(text)
    new_vision = json.dumps({"model_type": kind, **TOWERS[kind].to_diff_dict()})
    new_text = json.dumps({"model_type": "bert", **TEXT.to_diff_dict()})
    size = {"image_size": SIDE, "projection_dim": 8}
    with_text = build(text_model=text, vision_config=new_vision, **size)
    with_vision = build(vision_model=vision, text_config=new_text, **size)
    for model, folder, tower in ((with_text, text, "text_model"), (with_vision, vision, "vision_model")):
        stored, found = AutoModel.from_pretrained(folder).state_dict(), getattr(model, tower).state_dict()
        assert all(torch.equal(stored[name], weight) for name, weight in found.items())
    again = build(text_model=text, vision_config=new_vision, **size)
    for name, weight in with_text.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, atol=0, rtol=0, msg=name)


@pytest.mark.parametrize(
    "given", [{}, {"vision_model": "a"}, {"model": "a", "text_model": "b"}, {"vision_model": "a", "vision_config": {}}]
)
def test_other_ways_are_refused(given):
    with pytest.raises(ValueError, match=r"give model .* or two towers"):
        ModelArguments(**given)

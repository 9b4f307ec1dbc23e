"""What transformers' own test suites check of every model, checked of ours, so that it stays so.

A check that does not apply to a model stands in `NOT_APPLICABLE` with its reason and is reported as skipped with it;
every other pair of a check and a model must pass. Export is in `test_transformers_interfaces.py`, processors are in
`test_processor.py`, pipelines in `test_pipelines.py`, peft in `test_peft_operations.py`.
"""

from __future__ import annotations

import copy
import inspect
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, Dinov2Config, LlamaConfig, ResNetConfig

from modeling_chexficient import (
    CheXficientConfig,
    CheXficientForImageClassification,
    CheXficientForReportGeneration,
    CheXficientForSemanticSegmentation,
    CheXficientModel,
    CheXficientReportConfig,
)

SIDE = 28
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {
    # As many layers as the published decoder takes maps.
    "dinov2": Dinov2Config(**SIZES | {"num_hidden_layers": 5}, mlp_ratio=2, image_size=SIDE, patch_size=14),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
}
# Without dropout, so that two passes in training mode are the same.
DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
TEXT = BertConfig(**SIZES, **DROPOUT, vocab_size=50, intermediate_size=32, max_position_embeddings=16)
LANGUAGE = LlamaConfig(**SIZES, vocab_size=50, intermediate_size=32, max_position_embeddings=64)
DECODERS = ("linear", "unet", "published_unet")
MODELS = {
    **{f"dual-{tower}": (CheXficientModel, tower, {}) for tower in VISION},
    **{
        f"findings-{tower}": (
            CheXficientForImageClassification,
            tower,
            {"num_labels": 3, "problem_type": "multi_label_classification"},
        )
        for tower in VISION
    },
    **{
        f"{decoder}-{tower}": (
            CheXficientForSemanticSegmentation,
            tower,
            {"num_labels": 3, "problem_type": "multi_label_classification", "mask_decoder": decoder},
        )
        for tower in VISION
        for decoder in DECODERS
    },
    "report-dinov2": (CheXficientForReportGeneration, "dinov2", {}),
}
DUAL = [name for name in MODELS if name.startswith("dual")]
HEADS = [name for name in MODELS if not name.startswith(("dual", "report"))]
_CONVOLUTIONAL = "a convolutional tower has no attention"
NOT_APPLICABLE = {
    **{("attentions", name): _CONVOLUTIONAL for name in MODELS if name.endswith("resnet") and "dual" not in name},
    **{("sdpa", name): _CONVOLUTIONAL for name in MODELS if name.endswith("resnet") and "dual" not in name},
    ("sdpa", "dual-resnet"): "transformers refuses it for the whole as ResNet has none, naming ResNetModel",
    **{("words", name): "a head reads images alone" for name in HEADS},
    **{("labels", name): "it has no labels" for name in (*DUAL, "report-dinov2")},
    ("published", "published_unet-resnet"): "the published decoder takes five maps of one width, as a ViT has them",
}


def applicable(check: str, names=MODELS) -> list:
    """The models as parameters of a test; those that the check does not apply to are skipped with the reason."""
    return [
        pytest.param(name, marks=pytest.mark.skip(reason=NOT_APPLICABLE[key]) if (key := _why(check, name)) else ())
        for name in names
    ]


def _why(check: str, name: str) -> tuple[str, str] | None:
    return next((key for key in ((check, name), ("published", name)) if key in NOT_APPLICABLE), None)


def configuration(name: str) -> CheXficientConfig | CheXficientReportConfig:
    model_class, tower, fields = MODELS[name]
    if model_class is CheXficientForReportGeneration:
        return CheXficientReportConfig(
            vision_config=VISION[tower], text_config=LANGUAGE, image_token_index=49, image_seq_length=4
        )
    return CheXficientConfig(VISION[tower], TEXT, projection_dim=8, **fields)


@torch.no_grad()
def build(name: str):
    torch.manual_seed(0)
    model = MODELS[name][0](configuration(name))
    for parameter in model.parameters():
        # Zeros and ones would hide what is not loaded.
        if parameter.ndim:
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def inputs(name: str, count: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    given = {"pixel_values": torch.randn(count, 3, SIDE, SIDE, generator=generator)}
    if name in HEADS:
        return given
    tokens = torch.randint(5, 49, (count, 9), generator=generator)
    mask = torch.ones_like(tokens)
    if name.startswith("report"):
        tokens[:, :4] = 49
    mask[1, 7:] = 0
    return given | {"input_ids": tokens.masked_fill(mask == 0, 0), "attention_mask": mask}


def answers(name: str) -> dict:
    """What makes the model return a loss."""
    given = inputs(name)
    if name in DUAL:
        return given | {"return_loss": True}
    if name.startswith("report"):
        return given | {"labels": given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)}
    shape = (3, 3) if name.startswith("findings") else (3, 3, SIDE, SIDE)
    return given | {"labels": torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(2)).float()}


def main_output(name: str, output) -> torch.Tensor:
    return output.logits_per_image if name in DUAL else output.logits


@torch.no_grad()
@pytest.mark.parametrize("name", applicable("saving"))
def test_saved_whole_or_in_shards_and_loaded_it_says_the_same(name, tmp_path):
    model = build(name)
    expected = main_output(name, model(**inputs(name)))
    assert torch.equal(main_output(name, model(**inputs(name))), expected), "two calls differ"
    for size, folder in (("5GB", tmp_path / "whole"), ("4KB", tmp_path / "shards")):
        model.save_pretrained(folder, max_shard_size=size)
        loaded, report = type(model).from_pretrained(folder, output_loading_info=True)
        assert not any(report.values()), report
        assert not loaded.training
        torch.testing.assert_close(main_output(name, loaded(**inputs(name))), expected)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1, "the shards are too large for this model"
    placed = type(model).from_pretrained(tmp_path / "whole", device_map={"": "cpu"})
    torch.testing.assert_close(main_output(name, placed(**inputs(name))), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", applicable("copies"))
def test_configurations_and_models_are_copied(name, tmp_path):
    model = build(name)
    expected = main_output(name, model(**inputs(name)))
    twin = copy.deepcopy(model)
    assert torch.equal(main_output(name, twin(**inputs(name))), expected)
    config = pickle.loads(pickle.dumps(model.config))
    assert config.to_dict() == model.config.to_dict()
    config.save_pretrained(tmp_path)
    again = type(config).from_pretrained(tmp_path)
    assert json.loads(again.to_json_string()) == json.loads(config.to_json_string())
    anew = type(model)(again).eval()
    anew.load_state_dict(model.state_dict())
    assert torch.equal(main_output(name, anew(**inputs(name))), expected)


@pytest.mark.parametrize("name", applicable("keys"))
def test_missing_strange_and_misshapen_tensors_are_reported(name, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    lost, bent = [key for key, tensor in tensors.items() if key.endswith("weight") and tensor.ndim in (2, 4)][:2]
    shape = tuple(tensors[bent].shape)
    wrong = (shape[0] + 1, *shape[1:])
    tensors[bent] = torch.zeros(wrong)
    tensors["strange.weight"] = tensors.pop(lost)
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(RuntimeError, match="mismatch"):
        type(model).from_pretrained(tmp_path)
    _, report = type(model).from_pretrained(tmp_path, output_loading_info=True, ignore_mismatched_sizes=True)
    assert len(report["missing_keys"]) == 1
    assert set(report["unexpected_keys"]) == {"strange.weight"}
    assert [tuple(found) for _, found, _ in report["mismatched_keys"]] == [wrong]


@torch.no_grad()
@pytest.mark.parametrize("name", applicable("sdpa"))
def test_attention_implementations_agree(name):
    model = build(name)
    model.set_attn_implementation("eager")
    eager = main_output(name, model(**inputs(name)))
    model.set_attn_implementation("sdpa")
    kept = inputs(name).get("attention_mask", torch.ones(1)).bool()
    sdpa = main_output(name, model(**inputs(name)))
    if name.startswith("report"):
        # What stands on padding means nothing.
        eager, sdpa = eager[kept], sdpa[kept]
    torch.testing.assert_close(sdpa, eager, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", applicable("hidden"))
def test_hidden_states_by_call_and_by_configuration_and_their_gradients(name):
    model = build(name)
    # The embedding is one of them.
    expected = 1 + (2 if name.endswith("resnet") or name.startswith("report") else 5)
    assert len(_states(name, model(**inputs(name), output_hidden_states=True))) == expected
    config = _output_config(name, model)
    config.output_hidden_states = True
    assert len(_states(name, model(**inputs(name)))) == expected
    config.output_hidden_states = False
    assert _states(name, model(**inputs(name))) is None
    output = model(**inputs(name), output_hidden_states=True)
    states = _states(name, output)
    for state in states:
        state.retain_grad()
    main_output(name, output).sum().backward()
    # The last state of a tower is not always what its norm was applied to.
    assert all(state.grad is not None for state in states[:-1])


def _output_config(name: str, model):
    """The configuration whose flags say what is returned: as of LLaVA, a report model's language model says it."""
    return model.config.text_config if name.startswith("report") else model.config


def _states(name: str, output):
    return output.vision_model_output.get("hidden_states") if name in DUAL else output.get("hidden_states")


@torch.no_grad()
@pytest.mark.parametrize("name", applicable("attentions"))
def test_attentions_by_call_and_by_configuration(name):
    model = build(name)
    model.set_attn_implementation("eager")
    by_call = _attentions(name, model(**inputs(name), output_attentions=True))
    _output_config(name, model).output_attentions = True
    by_configuration = _attentions(name, model(**inputs(name)))
    for maps in (by_call, by_configuration):
        assert len(maps) == (5 if name in HEADS else 2)
        torch.testing.assert_close(maps[0].sum(dim=-1), torch.ones(maps[0].shape[:-1]))


def _attentions(name: str, output):
    return output.text_model_output.attentions if name in DUAL else output.attentions


@torch.no_grad()
@pytest.mark.parametrize("name", applicable("tuples"))
def test_a_tuple_holds_what_the_output_holds(name):
    model = build(name)
    whole, parts = model(**inputs(name)), model(**inputs(name), return_dict=False)
    assert isinstance(parts, tuple)
    assert len(parts) == len(whole.to_tuple())
    assert any(
        isinstance(part, torch.Tensor) and torch.equal(part, main_output(name, whole))
        for part in parts
        if part is not None and getattr(part, "shape", None) == main_output(name, whole).shape
    )


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", applicable("dtype"))
def test_half_precision_is_loaded_and_stays_close(name, dtype, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    half = type(model).from_pretrained(tmp_path, dtype=dtype)
    assert half.dtype == dtype
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs(name).items()}
    output, expected = main_output(name, half(**given)).float(), main_output(name, model(**inputs(name)))
    assert torch.isfinite(output).all()
    scale = expected.abs().max()
    assert (output - expected).abs().max() < 0.1 * scale
    if hasattr(half, "logit_scale"):
        assert half.logit_scale.dtype == torch.float32


@pytest.mark.parametrize("name", applicable("training"))
def test_every_trainable_parameter_learns_and_checkpointing_changes_nothing(name):
    model = build(name)
    found = [_gradients(name, model)]
    assert all(gradient is not None for gradient in found[0].values())
    if not any(hasattr(module, "gradient_checkpointing") for module in model.modules()):
        with pytest.raises(ValueError, match="has no layers that can be computed again"):
            model.gradient_checkpointing_enable()
        return
    model.gradient_checkpointing_enable()
    found.append(_gradients(name, model))
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, msg=key)


def _gradients(name: str, model) -> dict[str, torch.Tensor]:
    # Checkpointing asks for training mode, in which batch normalisation would differ between calls.
    model.train().zero_grad()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    model(**answers(name)).loss.backward()
    return {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
@pytest.mark.parametrize("name", applicable("batching"))
def test_a_row_alone_is_the_row_in_a_batch(name):
    model, given = build(name), inputs(name)
    kept = given.get("attention_mask", torch.ones(3, 1)).bool()
    whole = model(**given)
    for row in range(3):
        alone = model(**{key: value[row : row + 1] for key, value in given.items()})
        pairs = [(main_output(name, alone)[0], main_output(name, whole)[row])]
        if name in DUAL:
            pairs = [(alone[key][0], whole[key][row]) for key in ("image_embeds", "text_embeds")]
        elif name.startswith("report"):
            pairs = [(alone.logits[0][kept[row]], whole.logits[row][kept[row]])]
        for one, other in pairs:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", applicable("words"))
def test_word_embeddings_are_got_set_and_resized(name):
    model = build(name)
    expected = main_output(name, model(**inputs(name)))
    words = model.get_input_embeddings()
    model.set_input_embeddings(copy.deepcopy(words))
    assert model.get_input_embeddings() is not words
    assert torch.equal(main_output(name, model(**inputs(name))), expected)
    model.resize_token_embeddings(60, mean_resizing=False)
    assert model.get_input_embeddings().num_embeddings == 60
    output = main_output(name, model(**inputs(name)))
    torch.testing.assert_close(output[..., :50] if name.startswith("report") else output, expected)


@pytest.mark.parametrize("name", applicable("labels"))
def test_another_number_of_labels_makes_a_new_last_layer(name, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    with pytest.raises((RuntimeError, ValueError), match=r"label|mismatch"):
        type(model).from_pretrained(tmp_path, num_labels=5)
    other, report = type(model).from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert report["mismatched_keys"]
    assert other(**inputs(name)).logits.shape[1] == 5


@pytest.mark.parametrize("name", applicable("names"))
def test_the_main_input_is_an_argument_of_forward(name):
    model = build(name)
    parameters = list(inspect.signature(model.forward).parameters)
    assert model.main_input_name in parameters
    assert set(inputs(name)) <= set(parameters)

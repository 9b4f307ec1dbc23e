"""The model: parity is in test_convert_checkpoint.py; here shapes, pooling, towers, types, saving and errors."""

import copy

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForZeroShotImageClassification,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    ResNetConfig,
    RobertaConfig,
    SiglipVisionConfig,
    ViTConfig,
)

from modeling_chexficient import CheXficientConfig, CheXficientModel, contrastive_loss, similarity_logits
from tests import tiny_towers

HIDDEN = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = Dinov2Config(**HIDDEN, image_size=28, patch_size=14)
TEXT = BertConfig(**HIDDEN, vocab_size=50, intermediate_size=32, max_position_embeddings=16)


def tiny_config(vision=VISION, text=TEXT, **kwargs) -> CheXficientConfig:
    return CheXficientConfig(vision, text, projection_dim=8, **kwargs)


def tiny_model(*args, **kwargs) -> CheXficientModel:
    torch.manual_seed(0)
    return CheXficientModel(tiny_config(*args, **kwargs)).eval()


def tiny_inputs(size: int = 28) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(5, 50, (3, 6), generator=generator)
    attention_mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    return {
        "pixel_values": torch.randn(3, 3, size, size, generator=generator),
        "input_ids": input_ids.masked_fill(attention_mask == 0, 0),
        "attention_mask": attention_mask,
    }


@pytest.fixture(scope="module")
def model() -> CheXficientModel:
    return tiny_model()


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    return tiny_inputs()


def test_default_configuration_has_the_published_sizes():
    config = CheXficientConfig()
    vision, text = config.vision_config, config.text_config
    assert (vision.model_type, vision.hidden_size, vision.num_hidden_layers) == ("dinov2", 768, 12)
    assert (vision.image_size, vision.patch_size, vision.use_mask_token) == (378, 14, False)
    assert (text.model_type, text.vocab_size, text.hidden_size) == ("bert", 28996, 768)
    assert (config.projection_dim, config.text_pooling) == (512, "eos")
    assert config.logit_scale_init_value == pytest.approx(4.60517, abs=1e-5)
    with torch.device("meta"):
        model = CheXficientModel(config)
    assert model.vision_model.embeddings.position_embeddings.shape == (1, 730, 768)


def test_configuration_round_trip(tmp_path):
    config = tiny_config(text_pooling="mean", logit_scale_init_value=1.5)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() | {"_name_or_path": ""} == config.to_dict()
    from_dicts = tiny_config(VISION.to_dict(), TEXT.to_dict())
    assert from_dicts.vision_config.to_dict() == tiny_config().vision_config.to_dict()


def test_configuration_leaves_the_callers_objects_alone():
    vision = copy.deepcopy(VISION)
    tiny_config(vision)
    assert vision.use_mask_token is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text_pooling": "max"}, "eos, cls, mean"),
        ({"vision_config": {"hidden_size": 8}}, "vision_config needs a `model_type`"),
        ({"text_config": {"model_type": "no_such_model"}}, "no_such_model"),
        ({"projection_dim": 0}, "at least 1"),
    ],
)
def test_bad_configurations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CheXficientConfig(**arguments)


def test_forward_shapes_and_values(model, inputs):
    output = model(**inputs, return_loss=True)
    assert output.logits_per_image.shape == (3, 3)
    assert torch.equal(output.logits_per_text, output.logits_per_image.t())
    for embeds in (output.image_embeds, output.text_embeds):
        assert embeds.shape == (3, 8)
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(3))
    scale = torch.tensor(100.0)
    torch.testing.assert_close(output.logits_per_image, scale * output.image_embeds @ output.text_embeds.t())
    assert output.vision_model_output.last_hidden_state.shape == (3, 5, 16)
    assert output.text_model_output.last_hidden_state.shape == (3, 6, 16)
    assert torch.equal(model.get_image_features(inputs["pixel_values"]).pooler_output, output.image_embeds)
    text_only = {name: value for name, value in inputs.items() if name != "pixel_values"}
    assert torch.equal(model.get_text_features(**text_only).pooler_output, output.text_embeds)


def test_one_side_gives_that_side_only(model, inputs):
    images = model(pixel_values=inputs["pixel_values"])
    assert images.text_embeds is None
    assert images.logits_per_image is None
    texts = model(input_ids=inputs["input_ids"])
    assert texts.image_embeds is None
    assert texts.text_embeds.shape == (3, 8)


def test_text_tokens_are_the_call_of_the_released_model(model, inputs):
    tokens = {name: inputs[name] for name in ("input_ids", "attention_mask")} | {"special_tokens_mask": None}
    ours = model(**inputs)
    theirs = model(pixel_values=inputs["pixel_values"], text_tokens=tokens)
    assert torch.equal(theirs["logits_per_image"], ours.logits_per_image)
    with pytest.raises(ValueError, match="not both"):
        model(input_ids=inputs["input_ids"], text_tokens=tokens)


def test_tuples_and_hidden_states(model, inputs):
    output = model(**inputs, return_dict=False, output_hidden_states=True)
    assert isinstance(output, tuple)
    assert torch.is_tensor(output[0])
    assert isinstance(output[-1], tuple)
    states = model(**inputs, output_hidden_states=True)
    assert len(states.vision_model_output.hidden_states) == 3
    assert len(states.text_model_output.hidden_states) == 3


def test_contrastive_loss_is_symmetric_info_nce(model, inputs):
    logits = torch.tensor([[2.0, -1.0], [0.5, 1.0]])
    rows = -logits.log_softmax(1).diagonal().mean()
    columns = -logits.log_softmax(0).diagonal().mean()
    torch.testing.assert_close(contrastive_loss(logits), (rows + columns) / 2)
    output = model(**inputs, return_loss=True)
    torch.testing.assert_close(output.loss, contrastive_loss(output.logits_per_image))
    with pytest.raises(ValueError, match=r"one text per image.*\(2, 3\)"):
        model(**inputs | {"pixel_values": inputs["pixel_values"][:2]}, return_loss=True)


def test_logits_stay_exact_under_autocast():
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(4, 64, generator=generator), dim=-1) for _ in range(2))
    scale = torch.tensor(100.0).log()
    exact = scale.exp() * image @ text.t()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similarity_logits(image, text, scale), exact)


TEXT_TOWERS = {name: tiny_towers.TEXT[name] for name in ("bert", "roberta", "distilbert", "clip", "gpt2", "roformer")}


@pytest.mark.parametrize("pooling", ["eos", "cls", "mean"])
@pytest.mark.parametrize("tower", TEXT_TOWERS)
@torch.no_grad()
def test_texts_may_be_padded_on_either_side(tower, pooling, inputs):
    model = tiny_model(text=TEXT_TOWERS[tower], text_pooling=pooling)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    lengths = mask.sum(1).tolist()
    right = embed(model, ids, mask)
    padded = [row.roll(6 - length) for row, length in zip(ids, lengths, strict=True)]
    left = embed(model, torch.stack(padded), mask.flip(1))
    bare = torch.cat([embed(model, row[None, :length]) for row, length in zip(ids, lengths, strict=True)])
    torch.testing.assert_close(left, right, rtol=0, atol=1e-5)
    torch.testing.assert_close(right, bare, rtol=0, atol=1e-5)


def embed(model: CheXficientModel, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    return model(input_ids=ids, attention_mask=mask).text_embeds


def test_states_of_tokens_stay_where_the_tokens_are(inputs):
    ids, mask = inputs["input_ids"][1:2], inputs["attention_mask"][1:2]
    model = CheXficientModel(tiny_config(attn_implementation="eager")).eval()
    flags = {"output_hidden_states": True, "output_attentions": True}
    kinds = torch.tensor([[0, 0, 1, 0, 0, 0]])
    right = model(input_ids=ids, attention_mask=mask, token_type_ids=kinds, **flags).text_model_output
    moved = {"input_ids": ids.roll(3, 1), "attention_mask": mask.roll(3, 1), "token_type_ids": kinds.roll(3, 1)}
    left = model(**moved, **flags).text_model_output
    for states, expected in zip(left.hidden_states, right.hidden_states, strict=True):
        assert torch.equal(states, expected.roll(3, 1))
    assert torch.equal(left.last_hidden_state, right.last_hidden_state.roll(3, 1))
    for attention, expected in zip(left.attentions, right.attentions, strict=True):
        assert torch.equal(attention, expected.roll((3, 3), (2, 3)))
    # The caller's own positions are taken as they are.
    positions = torch.tensor([[0, 0, 0, 0, 1, 2]])
    torch.testing.assert_close(
        model(**moved, position_ids=positions).text_embeds, model(**moved).text_embeds, rtol=0, atol=1e-5
    )


def test_text_poolings_take_the_tokens_they_name(inputs):
    states = tiny_model().text_model(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
    pooled = {"eos": states[1, 2], "cls": states[1, 0], "mean": states[1, :3].mean(0)}
    for pooling, expected in pooled.items():
        model = tiny_model(text_pooling=pooling)
        projected = torch.nn.functional.normalize(model.text_projection(expected), dim=-1)
        actual = model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).pooler_output[1]
        torch.testing.assert_close(actual, projected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_values": None, "input_ids": None}, "Pass pixel_values, input_ids"),
        ({"pixel_values": torch.zeros(3, 1, 28, 28)}, r"\[images, 3, height, width\], not \(3, 1, 28, 28\)"),
        ({"pixel_values": torch.zeros(3, 28, 28)}, r"not \(3, 28, 28\)"),
        ({"pixel_values": torch.zeros(3, 3, 28, 28, dtype=torch.uint8)}, "normalised floats, not torch.uint8"),
        ({"input_ids": torch.zeros(6, dtype=torch.long)}, r"\[texts, tokens\].*\(6,\)"),
        ({"input_ids": torch.zeros(3, 0, dtype=torch.long)}, r"not empty, not \(3, 0\)"),
        ({"attention_mask": torch.ones(3, 5)}, r"attention_mask \(3, 5\).*\(3, 6\)"),
        ({"input_ids": torch.zeros(3, 17, dtype=torch.long), "attention_mask": None}, "17 tokens.*16 positions"),
        ({"input_ids": None, "return_loss": True}, "needs both"),
    ],
)
def test_bad_inputs_are_refused_with_their_shapes(model, inputs, changes, message):
    with pytest.raises(ValueError, match=message):
        model(**inputs | changes)


@pytest.mark.parametrize("shards", ["100GB", "10KB"])
def test_save_and_load_change_nothing(model, inputs, tmp_path, shards):
    model.save_pretrained(tmp_path, max_shard_size=shards)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards == "10KB")
    for auto_class in (AutoModel, AutoModelForZeroShotImageClassification):
        loaded, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert isinstance(loaded, CheXficientModel)
        assert torch.equal(loaded(**inputs).logits_per_image, model(**inputs).logits_per_image)


def test_bf16_load_keeps_the_temperature_in_fp32(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.logit_scale.dtype == torch.float32
    assert {parameter.dtype for name, parameter in half.named_parameters() if name != "logit_scale"} == {torch.bfloat16}
    assert half.dtype == torch.bfloat16
    output = half(**inputs)
    assert output.image_embeds.dtype == output.logits_per_image.dtype == torch.float32
    cosines = (output.image_embeds * model(**inputs).image_embeds).sum(-1)
    assert cosines.min() > 0.999
    half.save_pretrained(tmp_path / "half")
    assert AutoModel.from_pretrained(tmp_path / "half", dtype="auto").dtype == torch.bfloat16


def test_missing_projection_is_initialised_and_the_rest_kept(model, tmp_path):
    model.save_pretrained(tmp_path)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("text_projection")}
    model.save_pretrained(tmp_path, state_dict=state)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == {"text_projection.weight", "text_projection.bias"}
    assert torch.equal(loaded.visual_projection.weight, model.visual_projection.weight)
    assert torch.equal(loaded.logit_scale, model.logit_scale)
    assert loaded.text_projection.bias.abs().max() == 0
    assert loaded.text_projection.weight.std().item() == pytest.approx(16**-0.5, rel=0.3)


def test_sdpa_and_eager_agree_and_reach_both_towers(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    outputs = {}
    for implementation in ("sdpa", "eager"):
        loaded = AutoModel.from_pretrained(tmp_path, attn_implementation=implementation)
        assert loaded.vision_model.config._attn_implementation == implementation
        assert loaded.text_model.config._attn_implementation == implementation
        outputs[implementation] = loaded(**inputs).logits_per_image
    torch.testing.assert_close(outputs["sdpa"], outputs["eager"], rtol=1e-5, atol=1e-4)
    attentions = loaded(**inputs, output_attentions=True)
    assert attentions.vision_model_output.attentions[0].shape == (3, 2, 5, 5)


def test_every_parameter_gets_a_gradient_and_checkpointing_changes_none(inputs):
    gradients = {}
    for checkpointing in (False, True):
        model = tiny_model(text=BertConfig(**TEXT.to_dict() | {"hidden_dropout_prob": 0.0}))
        model.text_model.config.attention_probs_dropout_prob = 0.0
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert any(getattr(module, "gradient_checkpointing", False) for module in model.vision_model.modules())
            assert any(getattr(module, "gradient_checkpointing", False) for module in model.text_model.modules())
        model(**inputs, return_loss=True).loss.backward()
        gradients[checkpointing] = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert not [name for name, gradient in gradients[False].items() if gradient is None]
    for name, gradient in gradients[False].items():
        torch.testing.assert_close(gradients[True][name], gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "vision",
    [
        VISION,
        Dinov2WithRegistersConfig(**HIDDEN, image_size=28, patch_size=14, num_register_tokens=2),
        ViTConfig(**HIDDEN, image_size=28, patch_size=14, intermediate_size=32),
        SiglipVisionConfig(**HIDDEN, image_size=28, patch_size=14, intermediate_size=32),
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic"),
    ],
    ids=lambda config: config.model_type,
)
def test_other_image_towers_and_image_sizes(vision, tmp_path):
    model = tiny_model(vision)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    for size in (28, 56):
        inputs = tiny_inputs(size)
        logits = model(**inputs).logits_per_image
        assert torch.isfinite(logits).all()
        assert torch.equal(loaded(**inputs).logits_per_image, logits)


def test_other_text_tower(tmp_path):
    text = RobertaConfig(
        **HIDDEN, vocab_size=50, intermediate_size=32, max_position_embeddings=18, pad_token_id=0, type_vocab_size=1
    )
    model = tiny_model(text=text)
    assert model.text_model.pooler is None
    model.save_pretrained(tmp_path)
    inputs = tiny_inputs()
    assert torch.equal(AutoModel.from_pretrained(tmp_path)(**inputs).logits_per_image, model(**inputs).logits_per_image)


def test_position_embedding_is_interpolated_not_cropped():
    model = tiny_model()
    model.vision_model.embeddings.position_embeddings.data.mul_(50)
    small, large = torch.ones(1, 3, 28, 28), torch.ones(1, 3, 56, 56)
    states = model(pixel_values=large).vision_model_output.last_hidden_state
    assert states.shape == (1, 17, 16)
    assert not torch.allclose(states[0, 1], states[0, -1])
    of_small, of_large = (model.get_image_features(pixels).pooler_output for pixels in (small, large))
    assert not torch.allclose(of_small, of_large, atol=1e-4)


def test_start_from_two_pretrained_towers(tmp_path, inputs):
    torch.manual_seed(3)
    vision, text = Dinov2Model(VISION), BertModel(TEXT)
    vision.save_pretrained(tmp_path / "vision")
    text.save_pretrained(tmp_path / "text")
    model = CheXficientModel.from_vision_text_pretrained(
        tmp_path / "vision", tmp_path / "text", projection_dim=8, text_pooling="cls", attn_implementation="eager"
    )
    assert (model.config.projection_dim, model.config.text_pooling, model.training) == (8, "cls", False)
    assert model.vision_model.config._attn_implementation == "eager"
    assert not model.vision_model.config.use_mask_token
    assert model.text_model.pooler is None
    states = vision.state_dict()
    for name, tensor in model.vision_model.state_dict().items():
        assert torch.equal(tensor, states[name]), name
    for name, tensor in model.text_model.state_dict().items():
        assert torch.equal(tensor, text.state_dict()[name]), name
    assert model.visual_projection.weight.std().item() == pytest.approx(16**-0.5, rel=0.3)
    model.save_pretrained(tmp_path / "both")
    loaded = AutoModel.from_pretrained(tmp_path / "both")
    torch.testing.assert_close(loaded(**inputs).logits_per_image, model(**inputs).logits_per_image)


def test_start_from_towers_in_bf16_or_of_a_dual_encoder(tmp_path, inputs):
    torch.manual_seed(3)
    sizes = {**HIDDEN, "intermediate_size": 32}
    clip = CLIPModel(
        CLIPConfig(
            text_config={**sizes, "vocab_size": 50, "max_position_embeddings": 16},
            vision_config={**sizes, "image_size": 28, "patch_size": 14},
        )
    )
    clip.save_pretrained(tmp_path / "clip")
    BertModel(TEXT).save_pretrained(tmp_path / "text")
    model = CheXficientModel.from_vision_text_pretrained(tmp_path / "clip", tmp_path / "text", dtype=torch.bfloat16)
    assert model.vision_model.config.model_type == "clip_vision_model"
    ours, theirs = model.vision_model.state_dict(), clip.vision_model.state_dict()
    for name, tensor in theirs.items():
        match = [value for key, value in ours.items() if key.endswith(name)]
        assert torch.equal(match[0], tensor.bfloat16() if tensor.is_floating_point() else tensor), name
    assert (model.dtype, model.logit_scale.dtype) == (torch.bfloat16, torch.float32)
    assert torch.isfinite(model(**inputs).logits_per_image).all()


def test_register_checkpoint_loads_into_a_tower_without_registers(tmp_path):
    with_registers = AutoModel.from_config(Dinov2WithRegistersConfig(**HIDDEN, image_size=28, patch_size=14))
    with_registers.save_pretrained(tmp_path / "vision")
    BertModel(TEXT).save_pretrained(tmp_path / "text")
    model = CheXficientModel.from_vision_text_pretrained(
        tmp_path / "vision", tmp_path / "text", vision_config=VISION, projection_dim=8
    )
    ours, theirs = model.vision_model.state_dict(), with_registers.state_dict()
    assert set(theirs) - set(ours) == {"embeddings.register_tokens", "embeddings.mask_token"}
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_settings_reach_the_layers_of_pretrained_towers(tmp_path, inputs):
    Dinov2Model(VISION).save_pretrained(tmp_path / "vision")
    BertModel(TEXT).save_pretrained(tmp_path / "text")
    model = CheXficientModel.from_vision_text_pretrained(tmp_path / "vision", tmp_path / "text", projection_dim=8)
    model.set_attn_implementation("eager")
    output = model(**inputs, output_attentions=True)
    assert len(output.vision_model_output.attentions) == model.config.vision_config.num_hidden_layers
    assert len(output.text_model_output.attentions) == model.config.text_config.num_hidden_layers


def test_position_embeddings_are_resized_once(tmp_path, inputs):
    Dinov2Model(VISION).save_pretrained(tmp_path / "vision")
    BertModel(TEXT).save_pretrained(tmp_path / "text")
    towers = tmp_path / "vision", tmp_path / "text"
    size = 3 * VISION.patch_size
    whole = CheXficientModel.from_vision_text_pretrained(*towers)
    resized = CheXficientModel.from_vision_text_pretrained(*towers, image_size=size)
    assert resized.config.vision_config.image_size == size
    assert resized.vision_model.embeddings.position_embeddings.shape[1] == 1 + 9
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        resized.vision_model(pixels).last_hidden_state, whole.vision_model(pixels).last_hidden_state
    )
    resized.save_pretrained(tmp_path / "saved")
    assert AutoModel.from_pretrained(tmp_path / "saved").vision_model.embeddings.position_embeddings.shape[1] == 10
    with pytest.raises(ValueError, match="no multiple of the patch size"):
        CheXficientModel.from_vision_text_pretrained(*towers, image_size=size + 1)

"""What code written for any model of transformers asks of ours: export, output flags, names of inputs, auto classes."""

import pytest
import torch
from torch.export import Dim
from transformers import AutoModel, LlamaConfig
from transformers.exporters.configs import DynamoConfig
from transformers.exporters.exporter_dynamo import DynamoExporter
from transformers.modeling_outputs import BaseModelOutputWithPooling

from modeling_chexficient import CheXficientForImageClassification, CheXficientForSemanticSegmentation
from modeling_chexficient.modeling_chexficient_report import CheXficientReportModel
from modeling_chexficient.texts_chexficient import longest_text
from tests.adapter_files import make_report_model, pixels, save_base
from tests.test_heads import BOTH, build
from tests.test_modeling_chexficient import tiny_inputs, tiny_model


def exported(model, inputs):
    shapes = {name: {0: Dim.AUTO} for name in inputs}
    return DynamoExporter().export(model, inputs, DynamoConfig(dynamic=True, dynamic_shapes=shapes)).program.module()


@torch.no_grad()
def test_an_exported_model_takes_another_batch_padded_on_either_side():
    model, few = tiny_model(), tiny_inputs()
    many = {name: torch.cat([tensor, tensor]) for name, tensor in few.items()}
    for name in ("input_ids", "attention_mask"):
        many[name][4] = many[name][4].roll(3)
    output, expected = exported(model, few)(**many), model(**many)
    for name in ("image_embeds", "text_embeds", "logits_per_image"):
        torch.testing.assert_close(output[name], expected[name])


@torch.no_grad()
@pytest.mark.parametrize("head", BOTH)
def test_an_exported_head_takes_another_batch(head):
    model = build(head, problem_type="multi_label_classification")
    images = torch.randn(5, 3, 28, 28)
    output = exported(model, {"pixel_values": images[:2]})(pixel_values=images)
    torch.testing.assert_close(output["logits"], model(images).logits)


@torch.no_grad()
def test_outputs_may_be_asked_for_by_the_configuration(tmp_path):
    base = save_base(tmp_path)
    flags = {"attn_implementation": "eager", "output_hidden_states": True, "output_attentions": True}
    for head in (CheXficientForImageClassification, CheXficientForSemanticSegmentation):
        output = head.from_pretrained(base, **flags)(pixels())
        assert (len(output.hidden_states), len(output.attentions)) == (3, 2)
        plain = head.from_pretrained(base)(pixels())
        assert plain.hidden_states is plain.attentions is None


@torch.no_grad()
def test_features_of_one_side_are_returned_as_by_every_model_of_two_towers():
    model, inputs = tiny_model(), tiny_inputs()
    model.set_attn_implementation("eager")
    expected = model(**inputs, output_hidden_states=True, output_attentions=True)
    sides = {"image": ["pixel_values"], "text": ["input_ids", "attention_mask"]}
    for side, names in sides.items():
        get, own = getattr(model, f"get_{side}_features"), {name: inputs[name] for name in names}
        features = get(**own, output_hidden_states=True, output_attentions=True)
        assert isinstance(features, BaseModelOutputWithPooling)
        tower = expected["vision_model_output" if side == "image" else "text_model_output"]
        assert torch.equal(features.pooler_output, expected[f"{side}_embeds"])
        assert torch.equal(features.last_hidden_state, tower.last_hidden_state)
        assert len(features.hidden_states) == len(tower.hidden_states) == 3
        assert len(features.attentions) == len(tower.attentions) == 2
        states, pooled = get(**own, return_dict=False)
        assert torch.equal(states, tower.last_hidden_state)
        assert torch.equal(pooled, features.pooler_output)
        with pytest.raises(TypeError, match="strange"):
            get(**own, strange=1)


def test_names_that_transformers_reads():
    model, head = tiny_model(), build(BOTH[0])
    # By these Trainer counts tokens.
    assert (model.main_input_name, head.main_input_name) == ("input_ids", "pixel_values")
    assert head.get_input_embeddings() is head.vision_model.get_input_embeddings()
    assert "logit_scale" in model._keep_in_fp32_modules_strict
    assert not head._keep_in_fp32_modules_strict


def test_scaled_rotary_positions_take_longer_texts():
    config = LlamaConfig(max_position_embeddings=16, rope_parameters={"rope_type": "linear", "factor": 4.0})
    assert longest_text(config) == 64
    for kind, more in (("yarn", {}), ("llama3", {"low_freq_factor": 1.0, "high_freq_factor": 2.0})):
        scaled = {"rope_type": kind, "factor": 4.0, **more}
        # What is told of the model before it was scaled tells whether the positions are already all of them.
        known = LlamaConfig(
            max_position_embeddings=64, rope_parameters={**scaled, "original_max_position_embeddings": 16}
        )
        assert longest_text(known) == 64
        assert longest_text(LlamaConfig(max_position_embeddings=16, rope_parameters=dict(scaled))) == 64
    assert longest_text(LlamaConfig(max_position_embeddings=16)) == 16
    assert longest_text(LlamaConfig(max_position_embeddings=-1)) is None


@torch.no_grad()
def test_the_body_of_a_report_model(tmp_path):
    model, _ = make_report_model(save_base(tmp_path / "base"))
    model.save_pretrained(tmp_path / "report")
    body = AutoModel.from_pretrained(tmp_path / "report", trust_remote_code=True)
    assert type(body).__name__ == CheXficientReportModel.__name__
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(body.state_dict()[name], tensor), name
    features = body.get_image_features(pixels(), output_hidden_states=True)
    assert len(features.hidden_states) == 3
    with pytest.raises(TypeError, match="get_image_features has no option strange"):
        body.get_image_features(pixels(), strange=1)

"""DaViT as a tower: its published size, trained from a configuration, loaded with and without this package."""

import json
import re

import pytest
import torch
from transformers import AutoConfig, AutoModel
from transformers.models.florence2.modeling_florence2 import Florence2VisionBackbone

from modeling_chexficient import CheXficientModel
from modeling_chexficient.davit_chexficient import DaViTModel
from tests.training import RECIPE
from tests.warm import run_without_project
from train.adapt.methods import default_targets
from train.pretrain.__main__ import main

TINY = {"model_type": "florence_vision", "embed_dim": [8, 16, 24, 32], "num_heads": [1, 2, 2, 2]}
TINY |= {"num_groups": [1, 2, 2, 2], "depths": [1, 1, 2, 1], "window_size": 4, "drop_path_rate": 0.2}
#: As MedImageInsight's published configuration has it.
PUBLISHED = {"embed_dim": [256, 512, 1024, 2048], "num_heads": [8, 16, 32, 64], "num_groups": [8, 16, 32, 64]}
SCRIPT = """
import sys
import torch
import transformers
model = transformers.AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
embeds = model(pixel_values=torch.load(sys.argv[2])).image_embeds
torch.save({"embeds": embeds.detach(), "module": type(model.vision_model).__module__}, sys.argv[3])
"""


def test_the_published_tower_has_its_published_size():
    with torch.device("meta"):
        tower = AutoModel.from_config(AutoConfig.for_model("florence_vision", **PUBLISHED))
        output = tower(torch.empty(1, 3, 480, 480), output_hidden_states=True)
    assert round(sum(one.numel() for one in tower.parameters()) / 1e6, 1) == 360.6
    assert output.last_hidden_state.shape == (1, 2048, 15, 15)
    assert [state.shape[1:] for state in output.hidden_states] == [
        *((256, 120, 120), (512, 60, 60), (1024, 30, 30), (2048, 15, 15)),
    ]


@torch.no_grad()
def test_it_computes_what_the_backbone_of_transformers_does():
    torch.manual_seed(0)
    tower = AutoModel.from_config(AutoConfig.for_model(**TINY)).eval()
    plain = Florence2VisionBackbone(tower.config).eval()
    plain.load_state_dict(tower.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert isinstance(tower, DaViTModel)
    output = tower(pixel_values=images, output_hidden_states=True)
    assert torch.equal(output.last_hidden_state, plain(images).last_hidden_state)
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)


@pytest.fixture(scope="module")
def run(tiny_corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("davit")
    words = ["--vision_config", json.dumps(TINY), "--max_steps", "8", "--curation_report", "false"]
    main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(out), *words])
    return out


@torch.no_grad()
def test_a_small_one_trains_and_loads_again_everywhere(run, tmp_path):
    images = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    torch.save(images, tmp_path / "images.pt")
    own = CheXficientModel.from_pretrained(run / "model").eval()
    expected = own(pixel_values=images).image_embeds
    assert torch.equal(AutoModel.from_pretrained(run / "model")(pixel_values=images).image_embeds, expected)
    files = [run / "model", tmp_path / "images.pt", tmp_path / "found.pt"]
    run_without_project(SCRIPT, files, tmp_path)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found["module"].startswith("transformers_modules.")
    torch.testing.assert_close(found["embeds"], expected)
    record = json.loads((run / "run.json").read_text())
    assert record["flops"]["trained"] > 0
    assert record["steps"] == 8


def test_lora_goes_to_its_attention_as_to_that_of_other_transformers(run):
    model = CheXficientModel.from_pretrained(run / "model")
    expression = default_targets(model, ["vision_model"])
    found = [name for name, _ in model.named_modules() if re.fullmatch(expression, name)]
    # By window and by channel, in each of five blocks.
    assert len(found) == 10
    assert all(name.endswith(("window_attn.qkv", "channel_attn.qkv")) for name in found)


def test_the_tower_of_a_model_is_a_tower_to_start_from(run, tmp_path, tiny_corpus):
    CheXficientModel.from_pretrained(run / "model").vision_model.save_pretrained(tmp_path / "tower")
    text = json.dumps({"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2})
    main([
        "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "run"), "--use_cpu", "true",
        "--max_steps", "1",
        "--vision_model", str(tmp_path / "tower"), "--text_config", text, "--image_size", "56", "--selection", "none",
        "--max_text_length", "64", "--per_device_train_batch_size", "8",
    ])  # fmt: skip
    started = CheXficientModel.from_pretrained(run / "model").vision_model.state_dict()
    trained = CheXficientModel.from_pretrained(tmp_path / "run" / "model").vision_model.state_dict()
    assert all(torch.allclose(trained[name], value, atol=1e-3) for name, value in started.items())

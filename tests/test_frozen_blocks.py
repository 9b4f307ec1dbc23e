"""Blocks of the image tower that do not learn cost no backward pass, and change nothing for the others."""

import json

import pytest
import torch
from torch import nn

from tests.training import make_batch, make_trainer
from train.pretrain.model import freeze_blocks
from train.runs.depths import depth_of_parameters
from train.runs.flops import PairFlops

RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}


def gradients(trainer) -> dict[str, torch.Tensor | None]:
    trainer.current_gradient_accumulation_steps = 1
    trainer._backward(trainer.model.train(), make_batch(trainer, range(12)), None, 10**6)
    return {name: parameter.grad for name, parameter in trainer.model.named_parameters()}


def test_the_others_learn_as_before(tiny_corpus, tmp_path):
    plain = make_trainer(tiny_corpus, tmp_path / "plain")
    frozen = make_trainer(tiny_corpus, tmp_path / "frozen", "--freeze_blocks", "1")
    expected, found = gradients(plain), gradients(frozen)
    still = {name for name, gradient in found.items() if gradient is None}
    assert still == {
        name for name in expected if name.startswith("vision_model.") and ("embeddings." in name or ".layer.0." in name)
    }
    for name in found.keys() - still:
        torch.testing.assert_close(found[name], expected[name], msg=name)
    half, whole = (PairFlops(trainer.model).image(56) for trainer in (frozen, plain))
    assert half.forward == whole.forward
    # Of two blocks; what the one passes on to the other is not computed either.
    assert 0.3 < half.backward / whole.backward < 0.55
    assert frozen.encoder.spent["trained"] < plain.encoder.spent["trained"]


def test_a_run_leaves_them_as_they_were(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path, "--freeze_blocks", "2", "--max_steps", "6", "--ema_decay", "0.5")
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    changed = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert not any(".layer." in name or "embeddings." in name for name in changed if name.startswith("vision_model."))
    assert "visual_projection.weight" in changed


def test_stages_that_lie_in_several_lists_are_one_depth():
    """DaViT holds a stage's convolution and its blocks apart, convolutions first."""
    tower = nn.Module()
    tower.convs = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    tower.blocks = nn.ModuleList(nn.ModuleList([nn.Linear(2, 2)]) for _ in range(3))
    tower.norm = nn.LayerNorm(2)
    depths, count = depth_of_parameters(tower)
    assert count == 3
    assert [depths[f"convs.{n}.weight"] for n in range(3)] == [1, 2, 3]
    assert [depths[f"blocks.{n}.0.weight"] for n in range(3)] == [1, 2, 3]
    assert depths["norm.weight"] == 4
    freeze_blocks(tower, 2)
    assert {name for name, parameter in tower.named_parameters() if not parameter.requires_grad} == {
        f"{part}.{kind}" for part in ("convs.0", "convs.1", "blocks.0.0", "blocks.1.0") for kind in ("weight", "bias")
    }


def test_what_cannot_be_frozen_is_refused(tiny_corpus, tmp_path):
    with pytest.raises(ValueError, match="freeze_blocks is 3, and Dinov2Model has 2 blocks"):
        make_trainer(tiny_corpus, tmp_path, "--freeze_blocks", "3")
    with pytest.raises(ValueError, match="batch normalisation, whose statistics would change"):
        make_trainer(tiny_corpus, tmp_path, "--freeze_blocks", "1", "--vision_config", json.dumps(RESNET))
    with pytest.raises(ValueError, match="Linear has 0 blocks"):
        freeze_blocks(torch.nn.Linear(2, 2), 1)

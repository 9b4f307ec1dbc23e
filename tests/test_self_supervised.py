"""Self-distillation: parity with the published objective, one trajectory on any processes and after a stop."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, Dinov2Config, Dinov2Model, ViTConfig

from modeling_chexficient.towers_chexficient import without_pooling_layer
from tests.training import assert_same_weights, run_recipe
from train.film_runs.crops import Boxes, cut, resizing
from train.objectives.self_distillation import Weights, loss_terms, patch_weights
from train.self_supervised.__main__ import main
from train.self_supervised.head import HEAD_FILE, DinoHead
from train.self_supervised.network import Network, Teacher
from train.self_supervised.published_names import (
    backbone_to_published,
    head_from_published,
    head_to_parametrized,
    load_published_backbone,
)
from train.self_supervised.towers import check_masks, give_mask_token, load_tower

GOLDEN = Path(__file__).parent / "golden" / "dinov2_objective.safetensors"
RECIPE = str(Path(__file__).parent / "self_supervised.yaml")
PROGRAM = ("-m", "train.self_supervised")
CONFIG = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "patch_size": 14, "image_size": 70}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN)


def part(golden: dict, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in golden.items() if name.startswith(prefix)}


def network(golden: dict, who: str) -> Network:
    published = part(golden, f"weights.{who}.backbone.")
    backbone = load_published_backbone(Dinov2Model, Dinov2Config(**CONFIG), published)
    head = DinoHead(48, 96, 64, 24)
    head.load_state_dict(head_from_published(part(golden, f"weights.{who}.dino_head.")))
    return Network(backbone, head)


@pytest.mark.parametrize("centering", ["centering", "sinkhorn_knopp"])
def test_terms_targets_gradients_and_centres_are_the_published_ones(golden, centering):
    student, teacher, masks = (
        network(golden, "student"),
        Teacher(network(golden, "teacher"), centering),
        golden["masks"],
    )
    teacher.cls_center.copy_(golden["center_before.cls"][0])
    teacher.patch_center.copy_(golden["center_before.patch"][0, 0])
    picked = masks.flatten().nonzero()[:, 0]
    targets = teacher.targets(golden["global_crops"], masks, picked, 0.05)
    outputs = student(golden["global_crops"], golden["local_crops"], masks, picked)
    terms = loss_terms(outputs, targets, Weights(), patch_weights(masks))
    terms["total"].backward()
    expected = part(golden, f"{centering}.")
    found = {**terms, "teacher_cls_targets": targets.cls, "teacher_patch_targets": targets.patches}
    gradients = {name: parameter.grad for name, parameter in student.backbone.named_parameters()}
    found["grad.cls_token"] = gradients["embeddings.cls_token"]
    found["grad.mask_token"] = gradients["embeddings.mask_token"]
    found["grad.patch_embed.proj.weight"] = gradients["embeddings.patch_embeddings.projection.weight"]
    attention = student.backbone.encoder.layer[2].attention
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    found["grad.blocks.2.attn.qkv.weight"] = torch.cat([layer.weight.grad for layer in parts])
    found["grad.head.last_layer.weight_v"] = student.head.last_layer.weight_v.grad
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=0, msg=name)
    if centering == "centering":
        torch.testing.assert_close(teacher.cls_center, golden["center_after.cls"][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(teacher.patch_center, golden["center_after.patch"][0, 0], atol=1e-5, rtol=0)


def test_published_names_go_both_ways(golden):
    student = network(golden, "student")
    published = part(golden, "weights.student.backbone.")
    back = backbone_to_published(student.backbone)
    assert back.keys() == published.keys()
    assert all(torch.equal(back[name], published[name]) for name in back)
    head = part(golden, "weights.student.dino_head.")
    again = head_from_published({f"dino_head.{name}": value for name, value in head_to_parametrized(head).items()})
    assert again.keys() == head.keys()
    assert all(torch.equal(again[name], head[name]) for name in head)


def test_masked_patches_are_hidden_as_published(golden):
    tower = network(golden, "student").backbone
    with torch.no_grad():
        tokens = tower(golden["global_crops"], bool_masked_pos=golden["masks"]).last_hidden_state
        local = tower(golden["local_crops"]).pooler_output
    torch.testing.assert_close(tokens[:, 0], golden["student.x_norm_clstoken"], atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens[:, 1:], golden["student.x_norm_patchtokens"], atol=1e-5, rtol=0)
    torch.testing.assert_close(local, golden["student.local_clstoken"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [Dinov2Config, ViTConfig])
def test_a_vit_without_a_mask_token_gets_one_that_can_learn(config, tmp_path):
    """The tower of a CheXficient model, the encoder of a masked autoencoder."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4, "image_size": 12}
    more = {"use_mask_token": False, "mlp_ratio": 2} if config is Dinov2Config else {"intermediate_size": 32}
    kind = AutoConfig.for_model(config.model_type, **sizes, **more)
    tower = AutoModel.from_config(kind, **without_pooling_layer(kind)).eval()
    with pytest.raises(ValueError, match="has no mask token"):
        check_masks(tower)
    pixels, masks = torch.randn(2, 3, 12, 12), torch.zeros(2, 9, dtype=torch.bool)
    masks[:, :4] = True
    before = tower(pixel_values=pixels).last_hidden_state
    give_mask_token(tower)
    check_masks(tower)
    torch.testing.assert_close(tower(pixel_values=pixels).last_hidden_state, before, atol=0, rtol=0)
    hidden = tower(pixel_values=pixels, bool_masked_pos=masks).last_hidden_state
    assert not torch.allclose(hidden, before, atol=1e-3)
    # What lies below the masks is not seen.
    blanked = pixels.clone()
    blanked[:, :, :4] = 0
    blanked[:, :, 4:8, :4] = 0
    torch.testing.assert_close(tower(pixel_values=blanked, bool_masked_pos=masks).last_hidden_state, hidden)
    hidden.square().mean().backward()
    assert tower.embeddings.mask_token.grad.abs().max() > 0
    token = tower.embeddings.mask_token
    give_mask_token(tower)
    assert tower.embeddings.mask_token is token
    # One that was learnt goes on where the tower does, also from a plain ViT.
    with torch.no_grad():
        token.fill_(0.5)
    tower.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(pixel_values=pixels).last_hidden_state, before)
    again = load_tower(str(tmp_path), None, None, None).model
    torch.testing.assert_close(again.embeddings.mask_token, token)


@pytest.mark.parametrize(("length", "size"), [(60, 28), (20, 28), (28, 28)])
def test_resizing_is_that_of_torch_on_the_part_cut_out(length, size):
    film = torch.rand(64, 64)
    top, left = resizing(np.array([3, 1]), np.array([length, length]), 64, size, film.device)
    part = film[3 : 3 + length, 1 : 1 + length][None, None]
    expected = torch.nn.functional.interpolate(part, (size, size), mode="bilinear", antialias=True)[0, 0]
    torch.testing.assert_close(top @ film @ left.T, expected, atol=1e-5, rtol=0)


def test_a_crop_is_blurred_by_its_own_sigma_and_not_beyond_four_pixels():
    films, sigmas = torch.rand(3, 40, 40), np.array([0.0, 1.9, 0.4])
    places = [np.array(values) for values in ([2, 0, 5], [3, 1, 0], [30, 40, 20], [28, 33, 25])]
    mirrored, ones = np.array([False, False, True]), np.ones(3)
    sharp = cut(films, Boxes(*places, mirrored, np.zeros(3), ones, ones), 28)
    crops = cut(films, Boxes(*places, mirrored, sigmas, ones, ones), 28)
    assert torch.equal(crops[0], sharp[0]), "beside others that are blurred"
    distances = (torch.arange(28).view(-1, 1) - torch.arange(28)).abs()
    for row in (1, 2):
        weights = torch.exp(-((distances / sigmas[row]) ** 2) / 2).float() * (distances <= 4)
        weights = weights / weights.sum(1, keepdim=True)
        torch.testing.assert_close(crops[row], weights @ sharp[row] @ weights.T, atol=1e-5, rtol=0)
        assert (crops[row] - sharp[row]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--vision_config", '{"model_type": "resnet", "depths": [1, 1, 1, 1]}'], "iBOT cannot train this tower"),
        (["--local_size", "30"], "no multiple of the patch size"),
        (["--local_size", "70"], "local_size 70 is more than image_size 56"),
        (["--vision_config", '{"model_type": "bert"}'], "no image tower"),
        (["--vision_config", "{model_type: dinov2}"], "vision_config is .*, which is no JSON"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_cause(tiny_corpus, tmp_path, more, message):
    with pytest.raises(SystemExit, match=message):
        main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), *more])


@pytest.mark.slow
@pytest.mark.parametrize("centering", ["centering", "sinkhorn_knopp"])
def test_two_processes_learn_what_one_does(tiny_corpus, tmp_path, centering):
    # A teacher that follows at once shows what the student learnt.
    more = ["--centering", centering, "--teacher_momentum", "0.1", "0.1"]
    one = run_recipe(tiny_corpus, tmp_path / "1", *more, recipe=RECIPE, program=PROGRAM)
    more += ["--per_device_train_batch_size", "4"]
    two = run_recipe(tiny_corpus, tmp_path / "2", *more, processes=2, recipe=RECIPE, program=PROGRAM)
    assert_same_weights(one, two)
    heads = [load_file(run / "model" / HEAD_FILE) for run in (one, two)]
    for name, tensor in heads[0].items():
        torch.testing.assert_close(heads[1][name], tensor, atol=1e-5, rtol=0, msg=name)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_equal_bits(tiny_corpus, tmp_path):
    more = ["--save_strategy", "steps", "--save_steps", "1", "--max_steps", "5"]
    whole = run_recipe(tiny_corpus, tmp_path / "whole", *more, recipe=RECIPE, program=PROGRAM)
    shutil.copytree(whole, tmp_path / "part")
    for step in (3, 4, 5):
        shutil.rmtree(tmp_path / "part" / f"checkpoint-{step}")
    more += ["--resume_from_checkpoint", "last"]
    cut = run_recipe(tiny_corpus, tmp_path / "part", *more, recipe=RECIPE, program=PROGRAM)
    for name in ("model/model.safetensors", f"model/{HEAD_FILE}", "checkpoint-5/student.safetensors"):
        first, second = (load_file(run / name) for run in (whole, cut))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
    assert type(AutoModel.from_pretrained(cut / "model")) is Dinov2Model

"""Patches that the image tower does not see: the same ones in every chunk, pass, process and resumed run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from modeling_chexficient.towers_chexficient import pool_image
from tests.test_frozen_blocks import RESNET
from tests.tiny_towers import SIDE, VISION, images
from tests.training import RECIPE, assert_same_weights, make_batch, make_trainer, run_recipe
from train.pretrain.__main__ import main
from train.runs.patch_dropping import TOWERS, PatchDropping, count_patches, draw_seen

HALF = ("--patch_drop_share", "0.5")
#: Trains on all pairs, so that every step is of the subset phase.
ALL = ("--selection", "none", *HALF)


@pytest.mark.parametrize("name", [name for name, config in VISION.items() if config.model_type in TOWERS])
def test_a_tower_sees_what_it_is_shown(name):
    torch.manual_seed(0)
    tower, pixels, side = AutoModel.from_config(VISION[name]).eval(), images(), SIDE // 4
    assert count_patches(tower, SIDE) == 16
    with torch.no_grad():
        # Some begin with positions of 0.
        for parameter in tower.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    dropping, seen = PatchDropping(tower), torch.tensor([[0, 5, 6], [3, 8, 15]])

    def feature(pixels, seen):
        with torch.no_grad(), dropping.showing(seen):
            return pool_image(tower(pixels))

    def spoilt(patches):
        changed = pixels.clone()
        for image, of_image in zip(changed, patches.tolist(), strict=True):
            for patch in of_image:
                top, left = (patch // 4) * side, (patch % 4) * side
                image[:, top : top + side, left : left + side] += 1
        return changed

    shown, hidden = feature(pixels, seen), torch.tensor([[1, 4, 15], [0, 6, 14]])
    assert torch.equal(feature(spoilt(hidden), seen), shown)
    for one in range(3):
        assert not torch.allclose(feature(spoilt(seen[:, [one]]), seen), shown, atol=1e-7)
    # Places count: two patches of the same pixels are not the same.
    same = torch.ones_like(pixels)
    assert not torch.allclose(feature(same, seen), feature(same, hidden), atol=1e-7)
    whole = feature(pixels, None)
    torch.testing.assert_close(feature(pixels, torch.arange(16).expand(2, -1)), whole, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(pool_image(tower(pixels)), whole)


def test_others_are_refused_by_name(tiny_corpus, tmp_path):
    with pytest.raises(ValueError, match=r"patch_drop_share: ResNetModel has no patches.*dinov2"):
        make_trainer(tiny_corpus, tmp_path, *ALL, "--vision_config", json.dumps(RESNET))
    for name in ("swin", "beit", "dinov3", "convnext", "mlcd", "yolos"):
        with pytest.raises(ValueError, match="has no patches that can be left out"):
            PatchDropping(AutoModel.from_config(VISION[name]))


def test_patches_are_drawn_by_seed_batch_and_row():
    rows = torch.tensor([7, 3, 7, 900])
    seen = draw_seen(rows, 64, 0.5, seed=1, number=4)
    assert (seen.shape, seen.dtype) == ((4, 32), torch.int64)
    assert (seen.diff(dim=1) > 0).all()
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(draw_seen(rows[[3, 1]], 64, 0.5, seed=1, number=4), seen[[3, 1]])
    for other in ({"seed": 2, "number": 4}, {"seed": 1, "number": 5}):
        assert not torch.equal(draw_seen(rows, 64, 0.5, **other), seen)
    many = draw_seen(torch.arange(4000), 64, 0.75, seed=0, number=0)
    counts = many.flatten().bincount(minlength=64)
    assert counts.sum() == 4000 * 16
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


def step(trainer, chunk_size: int, number: int = 0) -> dict[str, torch.Tensor]:
    """Gradients of step `number` on 30 pairs."""
    trainer.current_gradient_accumulation_steps = 1
    trainer.encoder.chunk_size, trainer.batches_done = chunk_size, number
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, make_batch(trainer, range(30)))
    return {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}


def test_chunks_have_the_gradient_of_the_whole_batch(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path, *ALL, "--chunks_in_memory", "2")
    plain = step(trainer, 30)
    for chunk_size in (30, 11, 1):
        for name, gradient in step(trainer, chunk_size).items():
            torch.testing.assert_close(gradient, plain[name], atol=1e-5, rtol=1e-5, msg=name)
    whole = step(make_trainer(tiny_corpus, tmp_path / "whole", "--selection", "none"), 30)
    # The last step of 12 sees all patches, and nothing is left of those before.
    assert all(torch.equal(gradient, whole[name]) for name, gradient in step(trainer, 30, number=11).items())
    name = "vision_model.embeddings.position_embeddings"
    for other in (whole, step(trainer, 30, number=1)):
        assert (plain[name] - other[name]).abs().max() > 1e-3


def test_what_is_seen_when_and_what_it_costs(tiny_corpus, tmp_path):
    words = [*HALF, "--patch_drop_steps_share", "0.5", "--low_resolution_size", "42", "--low_resolution_share", "0.3"]
    trainer = make_trainer(tiny_corpus, tmp_path, *words)
    embed, seen = trainer.encoder.embed, []

    def recording(model, batch, chunk, image_size, spent_on):
        patches = None if batch.seen_patches is None else batch.seen_patches.shape[1]
        seen.append((trainer.batches_done, spent_on, patches))
        return embed(model, batch, chunk, image_size, spent_on)

    trainer.encoder.embed = recording
    trainer.train()
    assert {patches for _, spent_on, patches in seen if spent_on == "scored"} == {None}
    patches = {number: patches for number, spent_on, patches in seen if spent_on == "trained"}
    # 2 batches of warm-up and 4 of curation see all, then 2 half of 9 patches, 1 half of 16, and 3 all.
    assert [patches[number] for number in range(1, 13)] == [None] * 6 + [4, 4, 8] + [None] * 3


def test_flops_are_those_of_the_patches_seen(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path, *ALL)
    trainer.model.set_attn_implementation("eager")
    batch = make_batch(trainer, range(20))
    trainer.encoder.embed_all(trainer.model, batch)
    for number, patches in ((0, 8), (11, None)):
        batch = trainer._with_seen_patches(make_batch(trainer, range(20)), number)
        trainer.encoder.flops.image(56, patches)
        before = trainer.encoder.spent["scored"]
        with FlopCounterMode(display=False) as counter:
            trainer.encoder.embed_all(trainer.model, batch)
        # Logits are not counted by ours.
        assert trainer.encoder.spent["scored"] - before == pytest.approx(counter.get_total_flops(), rel=5e-3)


def test_runs_of_one_budget_cost_the_same(tiny_corpus, tmp_path):
    budget = ["--max_steps", "-1", "--compute_passes", "2", "--selection", "none"]
    whole, half = (make_trainer(tiny_corpus, tmp_path / str(len(more)), *budget, *more) for more in ((), HALF))
    for trainer in (whole, half):
        trainer.train()
    assert half.state.global_step > whole.state.global_step
    assert sum(half.flops.values()) == pytest.approx(sum(whole.flops.values()), rel=0.05)


def test_processes_and_resumed_runs_drop_the_same(tiny_corpus, tmp_path):
    """With curation in front, chunks, and a last part in which all is seen."""
    words = [*HALF, "--patch_drop_steps_share", "0.6", "--chunk_size", "9", "--curation_report", "false"]
    saving = [*words, "--save_strategy", "steps", "--save_steps", "8"]
    one, part = tmp_path / "one", tmp_path / "part"
    main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(one), *saving])
    two = run_recipe(tiny_corpus, tmp_path / "two", *words, "--per_device_train_batch_size", "12", processes=2)
    assert_same_weights(one, two)
    part.mkdir()
    shutil.copytree(one / "checkpoint-8", part / "checkpoint-8")
    last = ["--resume_from_checkpoint", "last"]
    main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(part), *saving, *last])
    first, second = (load_file(run / "model" / "model.safetensors") for run in (one, part))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_compiled_tower_notices(tiny_corpus, tmp_path):
    words = ["--torch_compile", "true", "--torch_compile_backend", "eager", "--patch_drop_steps_share", "0.5"]
    compiled, plain = (make_trainer(tiny_corpus, tmp_path / str(len(more)), *ALL, *more) for more in (words, words[4:]))
    for trainer in (compiled, plain):
        trainer.train()
    losses = [
        [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] for trainer in (compiled, plain)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)

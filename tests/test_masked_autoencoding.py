"""Masked autoencoding: the loss by hand, towers in and out, one trajectory on any processes and after a stop."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, ResNetConfig, ResNetModel, ViTMAEForPreTraining, ViTModel

from eval.records.runs import Run
from tests.training import assert_same_weights, run_recipe
from train.masked_autoencoding.__main__ import ARGUMENTS, AUTOENCODER, Arguments, build_trainer, main
from train.masked_autoencoding.autoencoder import encoder_of
from train.runs.recipes import parse_recipe

RECIPE = str(Path(__file__).parent / "masked_autoencoding.yaml")
PROGRAM = ("-m", "train.masked_autoencoding")
PATCH = 14


def words(corpus: Path, out: Path, *more: str) -> list[str]:
    return [RECIPE, "--dataset_dir", str(corpus), "--output_dir", str(out), *more]


def trainer_of(corpus: Path, out: Path, *more: str):
    arguments = Arguments(*parse_recipe(ARGUMENTS, words(corpus, out, *more)))
    return build_trainer(arguments, arguments.data.read())[0]


@pytest.fixture(scope="module")
def finished(tiny_corpus, tmp_path_factory) -> Path:
    """A run whose validation is probed."""
    out = tmp_path_factory.mktemp("mae")
    main(words(tiny_corpus, out, "--eval_strategy", "steps", "--eval_steps", "5"))
    return out


def test_the_loss_is_that_of_the_hidden_patches_alone(tiny_corpus, tmp_path):
    trainer = trainer_of(tiny_corpus, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    seen = {}

    def model(pixel_values, noise):
        seen.update(pixels=pixel_values, output=trainer.autoencoder(pixel_values=pixel_values, noise=noise))
        seen["hidden"] = noise.argsort(dim=1).argsort(dim=1) >= 4
        return seen["output"]

    loss = trainer.compute_loss(model, batch)
    pixels = seen["pixels"]
    # [B, patches, pixels of a patch, channels last]
    patches = pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    targets = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6) ** 0.5
    errors = ((seen["output"].logits - targets) ** 2).mean(-1)
    assert seen["hidden"].sum(1).tolist() == [12] * 8
    torch.testing.assert_close(loss, errors[seen["hidden"]].mean(), atol=1e-5, rtol=0)
    assert trainer.plan.hidden_patches == 12
    assert trainer.plan.learning_rate == pytest.approx(0.03 * 8 / 256)


def test_a_run_leaves_a_plain_vit_and_says_what_it_was(finished):
    tower = AutoModel.from_pretrained(finished / "model")
    assert type(tower) is ViTModel
    whole = ViTMAEForPreTraining.from_pretrained(finished / AUTOENCODER)
    # Where nothing is hidden, the encoder within the autoencoder is the tower.
    whole.vit.config.mask_ratio = 0.0
    pixels = torch.randn(2, 3, 56, 56)
    order = torch.arange(16.0).expand(2, -1)
    with torch.no_grad():
        inside = whole.eval().vit(pixels, noise=order).last_hidden_state
        torch.testing.assert_close(tower.eval()(pixels).last_hidden_state, inside, atol=1e-6, rtol=0)
    run = Run.load(finished)
    assert (run.paradigm, run.films_trained, run.steps) == ("films alone (masked autoencoding)", 40, 5)
    assert [entry["step"] for entry in run.probes] == [0, 5]
    log = json.loads((finished / "log.json").read_text())
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0]
    assert run.flops.trained == pytest.approx(40 * run.flops.trained / run.films_trained)
    assert run.flops.trained > 40 * 2 * 3 * sum(p.numel() for p in whole.vit.layers.parameters())


@pytest.mark.parametrize("start", [AUTOENCODER, "model"])
def test_a_run_goes_on_from_a_tower_at_another_size(finished, tiny_corpus, tmp_path, start):
    recipe = tmp_path / "more.yaml"
    left_out = ("vision_config", "image_size", *(("decoder_width", "decoder_layers") if start == AUTOENCODER else ()))
    lines = Path(RECIPE).read_text().splitlines()
    recipe.write_text("\n".join(line for line in lines if not line.startswith(left_out)))
    named = ["--vision_model", str(finished / start), "--image_size", "42", "--output_dir", str(tmp_path / "run")]
    arguments = Arguments(*parse_recipe(ARGUMENTS, [str(recipe), "--dataset_dir", str(tiny_corpus), *named]))
    trainer, _ = build_trainer(arguments, arguments.data.read())
    after = encoder_of(trainer.autoencoder)
    assert after.config.image_size == 42
    assert after.embeddings.position_embeddings.shape == (1, 10, 32)
    stored, found = (
        ViTModel.from_pretrained(finished / "model", add_pooling_layer=False).state_dict(),
        after.state_dict(),
    )
    assert found.keys() == stored.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in stored.items() if "position" not in name)
    if start == AUTOENCODER:
        decoder = load_file(finished / AUTOENCODER / "model.safetensors")
        own = trainer.autoencoder.decoder.state_dict()["decoder_pred.weight"]
        assert any(torch.equal(own, tensor) for tensor in decoder.values())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--vision_model", "x"], "not both"),
        (["--vision_config", '{"model_type": "dinov2"}'], "a masked autoencoder is a vit_mae"),
        (["--vision_config", '{"hiden_size": 32}'], "ViTMAEConfig has no"),
        (["--vision_config", '{"mask_ratio": 0.9}'], "have arguments of their own"),
        (["--vision_config", '{"num_channels": 1, "patch_size": 14}'], "num_channels is 1"),
        (["--image_size", "50"], "no multiple of the patch size"),
        (["--decoder_width", "40"], "multiple of 32"),
        (["--mask_ratio", "1"], "between 0 and 1"),
        (["--mask_ratio", "0.99"], "some must be left to see"),
        (["--learning_rate", "0.1"], "base_learning_rate"),
        (["--crop_scale", "0.9", "0.5"], "the smaller one first"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_cause(tiny_corpus, tmp_path, more, message):
    with pytest.raises((SystemExit, ValueError), match=message):
        main(words(tiny_corpus, tmp_path, *more))


def test_other_towers_are_refused(tiny_corpus, tmp_path):
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(tmp_path / "resnet")
    recipe = tmp_path / "more.yaml"
    lines = Path(RECIPE).read_text().splitlines()
    recipe.write_text("\n".join(line for line in lines if not line.startswith("vision_config")))
    start = [str(recipe), "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="is a resnet: a masked autoencoder's encoder is a plain ViT"):
        main([*start, "--vision_model", str(tmp_path / "resnet")])
    with pytest.raises(SystemExit, match="there is no model"):
        main([*start, "--vision_model", str(tmp_path / "nothing")])


def test_hidden_patches_differ_from_film_to_film(tiny_corpus, tmp_path):
    trainer = trainer_of(tiny_corpus, tmp_path)
    batches = iter(trainer.get_train_dataloader())
    noises = []

    def model(pixel_values, noise):
        noises.append(noise)
        return trainer.autoencoder(pixel_values=pixel_values, noise=noise)

    for _ in range(2):
        trainer.compute_loss(model, next(batches))
    assert len({tuple(row.tolist()) for noise in noises for row in noise}) == 16


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tiny_corpus, tmp_path):
    one = run_recipe(tiny_corpus, tmp_path / "1", recipe=RECIPE, program=PROGRAM)
    more = ["--per_device_train_batch_size", "4"]
    two = run_recipe(tiny_corpus, tmp_path / "2", *more, processes=2, recipe=RECIPE, program=PROGRAM)
    assert_same_weights(one, two)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_equal_bits(tiny_corpus, tmp_path):
    more = ["--save_strategy", "steps", "--save_steps", "1"]
    whole = run_recipe(tiny_corpus, tmp_path / "whole", *more, recipe=RECIPE, program=PROGRAM)
    shutil.copytree(whole, tmp_path / "part")
    for step in (3, 4, 5):
        shutil.rmtree(tmp_path / "part" / f"checkpoint-{step}")
    more += ["--resume_from_checkpoint", "last"]
    cut = run_recipe(tiny_corpus, tmp_path / "part", *more, recipe=RECIPE, program=PROGRAM)
    for name in ("model/model.safetensors", f"{AUTOENCODER}/model.safetensors"):
        first, second = (load_file(run / name) for run in (whole, cut))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name

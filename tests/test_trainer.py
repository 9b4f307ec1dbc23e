"""Curated training: the right gradient, the same outcome on any number of processes, and honest records."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from datasets import load_dataset
from safetensors.torch import load_file

from modeling_chexficient import contrastive_loss, similarity_logits
from tests.training import RECIPE, assert_same_weights, kept_rows, make_batch, make_trainer, run_recipe
from train.objectives.contrastive import contrastive_loss as distributed_loss
from train.objectives.encoding import Chunk
from train.objectives.modes import without_dropout
from train.pretrain.__main__ import main
from train.pretrain.vocabulary import learn_vocabulary
from train.selection.outcome import Role
from train.selection.state import CurationState


def test_score_then_train_has_the_gradient_of_the_published_step(tiny_corpus, tmp_path):
    """Published: forward and backward on everything, the loss on the kept. Ours: score, then train on the kept."""
    trainer = make_trainer(tiny_corpus, tmp_path)
    trainer.current_gradient_accumulation_steps = 1
    model = trainer.model.train()
    batch = make_batch(trainer, range(48))
    kept_batch, cached = trainer.curator.choose(model, batch, number=0)
    kept = trainer.curation.kept[batch.rows]
    assert 0 < kept.sum() < 48

    whole = Chunk(torch.arange(48), 48, batch.text_width, torch.arange(48))
    images, texts = trainer.encoder.embed(model, batch, whole, None, "trained")
    contrastive_loss(similarity_logits(images[kept], texts[kept], model.logit_scale)).backward()
    published = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    model.zero_grad()
    trainer._backward(model, kept_batch, cached, 0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, published[name], atol=1e-5, rtol=1e-4, msg=name)
    assert any(gradient.abs().max() > 1e-3 for gradient in published.values())


def test_the_curation_step_trains_on_the_kept_alone(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path)
    batch = make_batch(trainer, range(64))
    kept, _ = trainer.curator.choose(trainer.model, batch, number=0)
    assert len(kept) == len(kept.pixel_values) == round(0.3 * 64) == kept.valid.sum()
    assert trainer.curation.seen.sum() == 64
    assert trainer.curation.usage.sum() == len(kept)
    for name in ("rows", "lengths", "pixel_values", "input_ids", "attention_mask"):
        assert torch.equal(getattr(kept, name), getattr(batch, name)[trainer.curation.kept[:64]]), name


def test_filling_rows_do_not_count():
    torch.manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(6, 8), dim=-1).requires_grad_() for _ in range(2))
    scale = torch.tensor(2.0)
    valid = torch.tensor([True, True, True, True, False, False])
    loss = distributed_loss(images, texts, scale, valid)
    expected = contrastive_loss(similarity_logits(images[:4], texts[:4], scale))
    torch.testing.assert_close(loss, expected)
    gradient = torch.autograd.grad(loss, images)[0]
    torch.testing.assert_close(gradient[:4], torch.autograd.grad(expected, images)[0][:4])
    assert torch.equal(gradient[4:], torch.zeros(2, 8))


@pytest.mark.parametrize("rule", ["quantile", "sigma", "random"])
def test_a_run_meets_the_share_and_writes_what_it_did(tiny_corpus, tmp_path, rule):
    main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), "--selection", rule])
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["keep_share_reached"] == pytest.approx(0.3, abs=0.01)
    assert run["steps"] == 12
    assert run["pairs_scored"] == (0 if rule == "random" else run["corpus_pairs"])
    assert run["settings"]["num_prototypes"] == 4
    assert run["settings"]["text_config"]["hidden_size"] == 32
    rows = kept_rows(tmp_path)
    assert len(rows) == run["kept_pairs"]
    record_ids = load_dataset(str(tiny_corpus), split="train")["record_id"]
    table = pq.read_table(tmp_path / "curated_subset.parquet")
    assert table["record_id"].to_pylist() == [record_ids[row] for row in rows]
    assert CurationState.load(tmp_path).kept_rows.tolist() == rows
    log = json.loads((tmp_path / "log.json").read_text())
    assert {"loss", "temperature", "pairs_per_second", "kept_share", "learning_rate"} <= set(log[-2])
    assert not list(tmp_path.rglob("*.bin")), "no pickle in what a run leaves"
    assert (tmp_path / "model" / "modeling_chexficient.py").is_file()


def test_one_learning_rate_schedule_without_a_jump(tiny_corpus, tmp_path):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), "--logging_steps", "1"]
    main([*words, "--num_train_epochs", "6", "--max_steps", "-1"])
    rates = [entry["learning_rate"] for entry in json.loads((tmp_path / "log.json").read_text()) if "loss" in entry]
    steps = np.diff(rates)
    assert len(rates) > 10
    assert (steps <= 0).all(), "it never rises"
    assert np.abs(np.diff(steps)).max() < 0.35 * np.abs(steps).max(), "and never jumps"
    assert rates[-1] == pytest.approx(5e-6, rel=0.2)


def test_training_on_everything(tiny_corpus, tmp_path):
    main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), "--selection", "none"])
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["keep_share_reached"], run["pairs_trained"], run["pairs_scored"]) == (1.0, 12 * 24, 0)
    assert not (tmp_path / "curated_subset.parquet").exists()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(tiny_corpus, tmp_path):
    runs = [run_recipe(tiny_corpus, tmp_path / name) for name in ("a", "b")]
    assert kept_rows(runs[0]) == kept_rows(runs[1])
    weights = [load_file(run / "model" / "model.safetensors") for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("rule", ["quantile", pytest.param("sigma", marks=pytest.mark.slow)])
@pytest.mark.parametrize("steps", [pytest.param(5, marks=pytest.mark.slow), 12])
def test_two_processes_equal_one(tiny_corpus, tmp_path, rule, steps):
    """Five curating steps, and a run through all phases. 64 pairs a super-batch, 24 a batch, in both."""
    changes = ["--selection", rule]
    # Without warm-up the first five steps are the four super-batches of curation and one of the subset.
    changes += ["--max_steps", "5", "--curation_warmup_share", "0"] if steps == 5 else []
    one = run_recipe(tiny_corpus, tmp_path / "one", *changes)
    two = run_recipe(tiny_corpus, tmp_path / "two", *changes, "--per_device_train_batch_size", "12", processes=2)
    assert kept_rows(one) == kept_rows(two)
    assert_same_weights(one, two)
    single = load_file(one / "model" / "model.safetensors")
    start = make_trainer(tiny_corpus, tmp_path).model.visual_projection.weight
    assert (single["visual_projection.weight"] - start).abs().max() > 1e-4, "training moved the weights"


def test_an_empty_report_in_the_data_is_named(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path)
    pairs = trainer.train_dataset.__getitems__([4, 5])
    pairs[1]["report"] = " "
    with pytest.raises(ValueError, match=rf"record '{pairs[1]['record_id']}' \(row 5\) has an empty report"):
        trainer.data_collator(pairs)


def spoil_images(trainer, rows: list[int]) -> None:
    """Make the images of these rows embed as NaN, as a numerical accident would."""
    embed, spoilt = trainer.encoder.embed, torch.tensor(rows)

    def spoiling(model, batch, chunk, image_size, spent_on):
        images, texts = embed(model, batch, chunk, image_size, spent_on)
        bad = torch.isin(batch.input_ids[chunk.index[: chunk.count]].sum(dim=1), trainer.spoilt_texts)
        return images.masked_fill(bad.unsqueeze(1), torch.nan), texts

    pairs = trainer.data_collator(trainer.train_dataset.__getitems__(spoilt.tolist()))
    trainer.spoilt_texts = pairs.input_ids.sum(dim=1)
    trainer.encoder.embed = spoiling


def test_features_that_are_not_finite_stop_the_run_and_name_the_pairs(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path)
    trainer.curation.prototypes = torch.nn.functional.normalize(torch.randn(4, 32), dim=-1)
    trainer.curation.usage = torch.zeros(4)
    spoil_images(trainer, [7])
    name = trainer.train_dataset.record_ids([7])[0]
    with pytest.raises(FloatingPointError, match=rf"batch 3: 1 pairs have NaN or infinite features, .*{name}"):
        trainer.curator.choose(trainer.model, make_batch(trainer, range(64)), number=3)


def test_features_that_are_not_finite_are_left_out_on_request(tiny_corpus, tmp_path, capsys):
    trainer = make_trainer(tiny_corpus, tmp_path, "--on_nonfinite", "skip")
    trainer.curation.prototypes = torch.nn.functional.normalize(torch.randn(4, 32), dim=-1)
    trainer.curation.usage = torch.zeros(4)
    spoil_images(trainer, [7])
    trainer.curator.choose(trainer.model, make_batch(trainer, range(64)), number=3)
    assert trainer.curation.roles[7] == Role.OUTLIER
    assert trainer.curation.kept.sum() > 10
    assert torch.isfinite(trainer.curation.prototypes).all()
    assert trainer.train_dataset.record_ids([7])[0] in capsys.readouterr().out


def test_a_loss_that_is_not_finite_stops_or_skips(tiny_corpus, tmp_path, capsys):
    for answer in ("stop", "skip"):
        # Accumulated steps have nothing to hide either: the first batch is spoilt, the others are not.
        trainer = make_trainer(tiny_corpus, tmp_path / answer, "--on_nonfinite", answer, "--selection", "none")
        first = next(iter(trainer.get_train_dataloader().batch_sampler))
        spoil_images(trainer, first[:1])
        if answer == "stop":
            before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
            with pytest.raises(
                FloatingPointError,
                match=r"batch 0 \(step 0\): the loss is NaN .* of [0-9]+ pairs are, the first: \['synth",
            ):
                trainer.train()
            for name, tensor in trainer.model.state_dict().items():
                assert torch.equal(tensor, before[name])
        else:
            trainer.train()
            assert trainer.skipped_batches > 0
            assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())
            assert "passed over" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--dataset_dir", "/no/such/folder"], "is not a prepared dataset"),
        (["--super_batch_size", "5000"], "super_batch_size is 5000 but the corpus has"),
        (["--keep_share", "0"], "keep_share is 0.0"),
        (["--keep_share", "1.2"], "keep_share is 1.2"),
        (["--max_text_length", "4096"], "the text tower has 512 positions"),
        (
            ["--vision_model", "some/tower"],
            "give model .* not vision_model with vision_config",
        ),
        (["--selection", "quantil"], "invalid choice: 'quantil'"),
        (["--super_batch_size", "64.5"], "invalid int value: '64.5'"),
        (["--per_device_train_batch_size", "0"], "per_device_train_batch_size"),
        (["--keep_share", "0.97"], "rule quantile drops the farthest 5%"),
        (["--resume_from_checkpoint", "x"], "resume_from_checkpoint x: there is no such folder"),
        (["--load_best_model_at_end", "--eval_strategy", "no"], "load_best_model_at_end"),
        (["--push_to_hub"], "push_to_hub is not supported"),
    ],
)
def test_the_command_says_what_is_wrong(tiny_corpus, tmp_path, overrides, message):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), *overrides]
    with pytest.raises(SystemExit, match=message):
        main(words)


def test_validation_during_training_is_zero_shot_on_the_validation_split(tiny_corpus, tmp_path):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), "--eval_strategy", "steps"]
    main([*words, "--eval_steps", "6"])
    evaluations = [one for one in json.loads((tmp_path / "log.json").read_text()) if "eval_macro_auroc" in one]
    assert [one["step"] for one in evaluations] == [6, 12]
    assert all(0 <= one["eval_macro_auroc"] <= 1 for one in evaluations)
    assert evaluations[0]["eval_macro_auroc"] != evaluations[1]["eval_macro_auroc"]


def test_several_curation_passes_keep_the_share(tiny_corpus, tmp_path):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path), "--curation_epochs", "2"]
    main([*words, "--max_steps", "20"])
    assert json.loads((tmp_path / "run.json").read_text())["keep_share_reached"] == pytest.approx(0.3, abs=0.01)
    assert CurationState.load(tmp_path).seen.all()


def test_an_earlier_run_does_not_speak_for_this_one(tiny_corpus, tmp_path):
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path)]
    main(words)
    main([*words, "--selection", "none"])
    assert not (tmp_path / "curated_subset.parquet").exists()
    assert not (tmp_path / "curation_state.safetensors").exists()


@pytest.fixture(scope="module")
def towers(tiny_corpus, tmp_path_factory) -> Path:
    """Folders of a small DINOv2 (with mask token, 84 px) and a small BERT (with pooler), as the Hub has them."""
    from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("towers")
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(image_size=84, patch_size=14, mlp_ratio=2, **size)).save_pretrained(folder / "vision")
    tokenizer = learn_vocabulary(load_dataset(str(tiny_corpus), split="train")["report"], max_length=128)
    text = BertConfig(vocab_size=len(tokenizer), intermediate_size=64, max_position_embeddings=128, **size)
    BertModel(text).save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
    return folder


@pytest.mark.parametrize("processes", [1, 2])
def test_pretrained_towers(tiny_corpus, towers, tmp_path, processes):
    """As the published recipe starts: nothing without a gradient is left in, on one process and on two."""
    recipe = yaml.safe_load(Path(RECIPE).read_text())
    recipe = {name: value for name, value in recipe.items() if not name.endswith("_config")}
    recipe |= {"vision_model": str(towers / "vision"), "text_model": str(towers / "text"), "max_steps": 6}
    recipe["curation_warmup_share"] = 0
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    run = run_recipe(tiny_corpus, tmp_path / "run", processes=processes, recipe=str(tmp_path / "r.yaml"))
    weights = load_file(run / "model" / "model.safetensors")
    assert not [name for name in weights if "pooler" in name or "mask_token" in name]
    assert weights["vision_model.embeddings.position_embeddings"].shape == (1, 17, 32), "84 px became 56 px, once"
    tokenizer = json.loads((run / "model" / "tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 64


def test_batch_normalisation_scores_alike_on_all_processes(tiny_corpus, tmp_path):
    """Running statistics differ between processes while training; the choice must not be made with different ones.

    Every process trains on its share of what all have chosen: had they chosen differently, their batches would differ
    in size, or their checkpoints in what they say was seen.
    """
    recipe = yaml.safe_load(Path(RECIPE).read_text())
    recipe["vision_config"] = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8}
    recipe["vision_config"] |= {"hidden_sizes": [8, 16], "depths": [1, 1]}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    program = tmp_path / "compare.py"
    program.write_text(
        "import sys, torch, torch.distributed as dist\n"
        "from train.selection import curator\n"
        "score = curator.Curator.score\n"
        "def compared(self, model, batch):\n"
        "    buffers = torch.cat([one.float().flatten() for one in model.buffers()])\n"
        "    others = [torch.empty_like(buffers) for _ in range(2)]\n"
        "    dist.all_gather(others, buffers)\n"
        "    assert torch.equal(*others), 'the buffers differ'\n"
        "    return score(self, model, batch)\n"
        "curator.Curator.score = compared\n"
        "from train.pretrain.__main__ import main\n"
        "main(sys.argv[1:])\n"
    )
    run = run_recipe(
        tiny_corpus, tmp_path / "run", processes=2, recipe=str(tmp_path / "r.yaml"), program=[str(program)]
    )
    assert json.loads((run / "run.json").read_text())["keep_share_reached"] == pytest.approx(0.3, abs=0.01)


def test_parts_of_unequal_size_do_not_wait_for_each_other(tiny_corpus, tmp_path):
    """The corpus embedded at once before its choice, one more pair in one process than in the other."""
    words = ["--selection", "semdedup", "--max_steps", "6", "--subset"]
    rows = load_dataset(str(tiny_corpus), split="train")["record_id"][:65]
    (tmp_path / "65.txt").write_text("\n".join(rows) + "\n")
    run = run_recipe(tiny_corpus, tmp_path / "run", *words, str(tmp_path / "65.txt"), processes=2)
    assert json.loads((run / "run.json").read_text())["pairs_scored"] == 65


def test_a_gradient_that_is_not_finite_is_not_applied(tiny_corpus, tmp_path, capsys):
    for answer, clip in (("stop", "0"), ("stop", "1"), ("skip", "0"), ("skip", "1")):
        words = ["--on_nonfinite", answer, "--max_grad_norm", clip, "--max_steps", "8"]
        trainer = make_trainer(tiny_corpus, tmp_path / f"{answer}{clip}", *words)
        step = trainer.training_step

        def spoil(*args, step=step, trainer=trainer, **kwargs):
            loss = step(*args, **kwargs)
            if trainer.batches_done == 3:
                trainer.model.logit_scale.grad.fill_(torch.inf)
            return loss

        trainer.training_step = spoil
        if answer == "stop":
            with pytest.raises(FloatingPointError, match=r"step 2: a gradient is NaN or infinite.*--model CHECKPOINT"):
                trainer.train()
        else:
            trainer.train()
            assert trainer.skipped_batches == 1
            assert "a gradient is NaN or infinite: passed over" in capsys.readouterr().out
        assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())


def test_skipping_ends_where_it_does_not_help(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path, "--on_nonfinite", "skip", "--max_skipped_in_a_row", "3")
    with torch.no_grad():
        trainer.model.visual_projection.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="past mending"):
        trainer.train()
    assert trainer.skipped_batches == 3


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_tokenizers_pad_on_the_right(tiny_corpus, tmp_path, padding_side):
    folder = tmp_path / "tokenizer"
    learn_vocabulary(load_dataset(str(tiny_corpus), split="train")["report"], max_length=64).save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"padding_side": padding_side}))
    trainer = make_trainer(tiny_corpus, tmp_path, "--tokenizer", str(folder))
    batch = make_batch(trainer, range(12))
    shortest = batch.attention_mask[batch.lengths.argmin()].tolist()
    assert shortest == sorted(shortest, reverse=True)
    assert batch.lengths.min() < batch.lengths.max()


@pytest.mark.parametrize("vision", ["dinov2", "siglip_vision_model"])
def test_scores_are_the_embeddings_of_the_curation_step(tiny_corpus, tmp_path, vision):
    """Also where a tower holds its dropout in a plain number."""
    tower = {
        "model_type": vision,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": 14,
    }
    tower |= {"attention_dropout": 0.3} if "siglip" in vision else {"drop_path_rate": 0.3, "mlp_ratio": 2}
    trainer = make_trainer(tiny_corpus, tmp_path, "--vision_config", json.dumps(tower | {"image_size": 56}))
    batch = make_batch(trainer, range(12))
    assert trainer.curator.reuses_scores
    scored = trainer.curator.score(trainer.model, batch)
    trainer.model.train()
    plain = trainer.encoder.embed_all(trainer.model, batch)
    assert not torch.allclose(plain[0], scored[0], atol=1e-4)
    with without_dropout(trainer.model):
        quiet = trainer.encoder.embed_all(trainer.model, batch)
    torch.testing.assert_close(quiet, scored, atol=1e-5, rtol=0)
    again = trainer.encoder.embed_all(trainer.model, batch)
    assert not torch.allclose(again[0], scored[0], atol=1e-4), "and it comes back"


def test_a_recipe_with_a_misspelt_argument_is_refused(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("keep_shar: 0.2\n")
    with pytest.raises(SystemExit, match="unknown argument 'keep_shar', did you mean 'keep_share'"):
        main([str(recipe)])


def test_colour_and_grey_films_make_one_batch(tiny_corpus, tmp_path):
    from PIL import Image

    collator = make_trainer(tiny_corpus, tmp_path).data_collator
    grey = Image.fromarray(np.arange(56 * 56, dtype=np.uint8).reshape(56, 56))
    colour = Image.merge("RGB", (grey, grey.rotate(90), grey))
    pixels = collator.pixels([grey, colour])
    assert pixels.shape == (2, 3, 56, 56)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels[0, 0], pixels[0, 2])
    assert collator.pixels([grey, grey]).shape == (2, 1, 56, 56)

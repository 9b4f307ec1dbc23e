"""The average of the weights: by hand from every step's weights, saved as the model, and exact after a resumption."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.training import RECIPE, assert_same_weights, make_trainer
from train.pretrain.__main__ import main
from train.runs.averaging import AVERAGE_FILE, WeightAverage

RUN = ["--selection", "none", "--max_steps", "4", "--ema_decay", "0.6", "--save_strategy", "steps", "--save_steps", "1"]
#: Batch normalisation has running statistics and a counter; dropout needs the random state.
RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
TEXT = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT |= {"intermediate_size": 64, "hidden_dropout_prob": 0.2}
RUN += ["--vision_config", json.dumps(RESNET), "--text_config", json.dumps(TEXT)]


@pytest.fixture(scope="module")
def run(tiny_corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("averaged")
    main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(out), *RUN])
    return out


def test_the_model_of_a_run_is_the_average_of_its_steps(tiny_corpus, tmp_path, run):
    start = make_trainer(tiny_corpus, tmp_path, *RUN).model
    start.save_pretrained(tmp_path / "start")
    expected = load_file(tmp_path / "start" / "model.safetensors")
    for step in range(1, 5):
        weights = load_file(run / f"checkpoint-{step}" / "model.safetensors")
        for name, value in weights.items():
            floating = value.is_floating_point()
            expected[name] = 0.6 * expected[name] + 0.4 * value if floating else value
    found = load_file(run / "model" / "model.safetensors")
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-5, msg=name)
    moved = (found["logit_scale"] - weights["logit_scale"]).abs()
    assert moved > 1e-7, "the average is not the last weights"
    assert any("running_mean" in name for name in found)
    assert json.loads((run / "run.json").read_text())["settings"]["ema_decay"] == 0.6


def test_a_resumed_run_has_the_same_average_to_the_bit(tiny_corpus, tmp_path, run):
    shutil.copytree(run, tmp_path / "again")
    for step in (3, 4):
        shutil.rmtree(tmp_path / "again" / f"checkpoint-{step}")
    words = [RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(tmp_path / "again"), *RUN]
    main([*words, "--resume_from_checkpoint", "last"])
    assert_same_weights(run, tmp_path / "again", atol=0)
    averages = [load_file(folder / "checkpoint-4" / AVERAGE_FILE) for folder in (run, tmp_path / "again")]
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])
    # A run that was over when it stopped is saved as its average, too.
    main([*words, "--resume_from_checkpoint", "last"])
    assert_same_weights(run, tmp_path / "again", atol=0)


def test_the_average_is_what_is_evaluated_and_training_goes_on_from_the_weights(tiny_corpus, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_corpus, tmp_path, *RUN, "--eval_strategy", "steps", "--eval_steps", "1")
    seen = []
    score = "train.pretrain.trainer.score_split"
    monkeypatch.setattr(score, lambda encoder, *_: seen.append(encoder.model) or (_ for _ in ()).throw(KeyError))
    with pytest.raises(KeyError):
        trainer.evaluate()
    assert seen == [trainer.average.model]
    model = nn.Linear(2, 1)
    average = WeightAverage(model, 0.9)
    before = model.weight.clone()
    nn.init.ones_(model.weight)
    average.update()
    with average.in_place():
        torch.testing.assert_close(model.weight, 0.9 * before + 0.1)
    assert model.weight.eq(1).all()
    assert not average.model.weight.requires_grad


@pytest.mark.parametrize("decay", ["0", "1", "-0.5"])
def test_a_decay_that_cannot_be_is_refused(tmp_path, decay):
    with pytest.raises(SystemExit, match=r"ema_decay is .*, it must lie between 0 and 1"):
        main([RECIPE, "--dataset_dir", "none", "--output_dir", str(tmp_path), "--ema_decay", decay])

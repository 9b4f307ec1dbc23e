"""The cost of a step by method: what is counted, never how fast this machine is."""

import json

import pytest
import torch

from train.adapt.speed import main
from train.runs.memory import peak_bytes

TOWER = {"model_type": "vit", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
TOWER |= {"intermediate_size": 256, "patch_size": 8}
SMALL = ["--vision_config", json.dumps(TOWER), "--image_size", "64", "--batch_size", "4", "--repeats", "1"]


def test_the_peak_is_that_of_one_moment():
    kept = []

    def step():
        first = torch.ones(1 << 20)
        del first
        second = torch.ones(1 << 21)
        kept.append(torch.ones(1 << 18))
        del second

    assert peak_bytes(step, torch.device("cpu")) == 4 * ((1 << 21) + (1 << 18))


def test_each_method_and_what_it_holds(tmp_path, capsys):
    out = tmp_path / "speed.json"
    variants = ["full", "lora", "linear", "lora_bf16", "lora_checkpointing"]
    main([*SMALL, "--variants", *variants, "--out", str(out)])
    report, table = json.loads(out.read_text()), capsys.readouterr().out
    steps = report["steps"]
    assert list(steps) == variants
    assert all(f"| {name} |" in table for name in variants)
    assert steps["full"]["peak_ratio"] == steps["full"]["seconds_ratio"]["median"] == 1
    # Two moments of AdamW for each parameter, and a count of steps.
    assert steps["full"]["optimizer_bytes"] == pytest.approx(2 * 4 * report["parameters"], rel=0.01)
    assert steps["full"]["peak_bytes"] > steps["lora"]["peak_bytes"] > steps["linear"]["peak_bytes"]
    assert steps["lora"]["step_bytes"] > steps["lora_checkpointing"]["step_bytes"]
    assert steps["lora_bf16"]["model_bytes"] < 0.6 * steps["lora"]["model_bytes"]
    assert steps["lora_bf16"]["step_bytes"] < 0.8 * steps["lora"]["step_bytes"]
    assert steps["linear"]["trainable_share"] < steps["lora"]["trainable_share"] < steps["full"]["trainable_share"]
    assert steps["linear"]["flops_a_film"] < 0.7 * steps["lora"]["flops_a_film"]


def test_what_makes_no_sense_is_refused():
    for words in (["--repeats", "0"], ["--variants", "half"], ["--vision_config", "{"]):
        with pytest.raises(SystemExit):
            main(words)

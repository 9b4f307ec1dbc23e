"""The comparison with other trainers: same gradients first, then time and memory; absent packages are named."""

import json
from importlib.util import find_spec

import pytest

from train.peers import main

WORDS = ["--image_size", "56", "--max_text_length", "32", "--batch_size", "12", "--chunk_size", "4", "--repeats", "1"]
TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS += ["--vision_config", json.dumps({"model_type": "dinov2", "patch_size": 14} | TOWER)]
DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
WORDS += ["--text_config", json.dumps({"model_type": "bert", "intermediate_size": 64} | TOWER | DROPOUT)]
WORDS += ["--text_length", "16", "--chunks_in_memory", "1", "2"]


def test_gradients_are_compared_before_the_time(tmp_path, capsys):
    main([*WORDS, "--out", str(tmp_path / "peers.json")])
    report = json.loads((tmp_path / "peers.json").read_text())
    steps = report["steps"]
    plain, ours, more = steps["plain, whole batch"], *(steps[name] for name in steps if name.startswith("ours"))
    for step in (ours, more):
        assert step["gradient_difference"] < 1e-4
        assert step["temperature_gradient_ratio"] == pytest.approx(1, abs=1e-3)
        assert step["loss"] == pytest.approx(plain["loss"], abs=1e-4)
    assert ours["peak_bytes"] < more["peak_bytes"] < plain["peak_bytes"]
    trainer = next(step for name, step in steps.items() if name.startswith("Trainer"))
    assert trainer["gradient_difference"] > 0.01, "other pooling and projections"
    for package, name in (("sentence_transformers", "sentence-transformers"), ("open_clip", "OpenCLIP")):
        if find_spec(package) is None:
            assert any(left_out.startswith(name) for left_out in report["absent"])
        else:
            step = next(step for key, step in steps.items() if key.startswith(name))
            assert step["gradient_difference"] < 1e-4
    assert "left out" in capsys.readouterr().out or not report["absent"]


def test_impossible_sizes_are_refused():
    with pytest.raises(SystemExit, match="chunk_size is 0"):
        main([*WORDS, "--chunk_size", "0"])

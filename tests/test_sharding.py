"""Weights sharded over two processes: training, choosing and going on are those of whole weights."""

import json
import shutil
from pathlib import Path

import pytest

from tests.test_resume import LAST, TEXT, assert_equal_runs
from tests.training import assert_same_weights, kept_rows, run_recipe

PROGRAM = [str(Path(__file__).parent / "sharded_program.py")]
#: Super-batches are 61 or 60 pairs, of which processes have 31 and 30: six chunks and five. Kept are 9 a process and
#: other batches have 12, so all are trained in chunks, two batches to a step; gradients are clipped, BERT has dropout.
RUN = ["--max_steps", "8", "--gradient_accumulation_steps", "2", "--per_device_train_batch_size", "12"]
RUN += ["--chunk_size", "6", "--max_grad_norm", "1", "--text_config", json.dumps(TEXT), "--curation_report", "false"]
RUN += ["--save_strategy", "steps", "--save_steps", "1", "--logging_steps", "1"]


def shard(corpus: Path, out: Path, *more: str) -> Path:
    return run_recipe(corpus, out, *RUN, "--fsdp", *more, processes=2, program=PROGRAM)


@pytest.fixture(scope="module")
def sharded(tiny_corpus, tmp_path_factory) -> Path:
    return shard(tiny_corpus, tmp_path_factory.mktemp("sharded"))


def logged(run: Path, name: str) -> list[float]:
    return [entry[name] for entry in json.loads((run / "log.json").read_text()) if name in entry]


@pytest.mark.slow
def test_sharded_weights_choose_and_learn_what_whole_ones_do(tiny_corpus, sharded, tmp_path):
    whole = run_recipe(tiny_corpus, tmp_path, *RUN, processes=2)
    assert kept_rows(sharded) == kept_rows(whole)
    assert_same_weights(sharded, whole)
    assert min(logged(whole, "grad_norm")) > 1, "all are clipped"
    assert logged(sharded, "grad_norm") == pytest.approx(logged(whole, "grad_norm"), rel=1e-4)
    # The folder is that of any model: the same code beside it, the same configuration.
    one, other = (sorted(file.name for file in (run / "model").iterdir()) for run in (sharded, whole))
    assert one == other
    assert (sharded / "model" / "config.json").read_text() == (whole / "model" / "config.json").read_text()


@pytest.mark.slow
def test_sharded_weights_go_on_exactly(tiny_corpus, sharded, tmp_path):
    """From within the curation epoch."""
    part = tmp_path / "part"
    shutil.copytree(sharded, part)
    for step in range(3, 9):
        shutil.rmtree(part / f"checkpoint-{step}")
    shutil.rmtree(part / "model")
    shard(tiny_corpus, part, *LAST)
    assert_equal_runs(part, sharded)

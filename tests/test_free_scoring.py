"""A curation epoch that trains on all pairs: its own embeddings choose, exactly, and nothing is scored."""

import json
import shutil

import pytest
import torch

from tests.training import RECIPE, assert_same_weights, kept_rows, make_batch, make_trainer, run_recipe
from train.pretrain.__main__ import main
from train.selection.state import CurationState

ALL = ["--curation_trains_on", "all", "--curation_report", "false"]


def spent_first_step(trainer, rows=range(64)) -> torch.Tensor:
    """Takes the first curating step of `trainer`; the roles that it gave."""
    trainer.current_gradient_accumulation_steps = 1
    trainer.batches_done = trainer.schedule.warmup_steps
    trainer.training_step(trainer.model, make_batch(trainer, rows))
    return trainer.curation.roles[list(rows)]


@pytest.mark.parametrize("chunk_size", ["64", "20"])
def test_it_chooses_what_scoring_would(tiny_corpus, tmp_path, chunk_size):
    words = ["--chunk_size", chunk_size]
    scoring = make_trainer(tiny_corpus, tmp_path / "kept", *words)
    free = make_trainer(tiny_corpus, tmp_path / "all", *words, *ALL)
    roles = spent_first_step(free)
    assert torch.equal(roles, spent_first_step(scoring))
    assert 0 < (roles > 0).sum() < 64
    torch.testing.assert_close(free.curation.prototypes, scoring.curation.prototypes)
    assert (free.samples_trained, free.curator.pairs_scored, free.flops["scored"]) == (64, 0, 0)
    # The step itself is that of the plain loss over all pairs.
    gradients = {name: parameter.grad for name, parameter in free.model.named_parameters()}
    plain = make_trainer(tiny_corpus, tmp_path / "none", "--selection", "none", *words)
    plain.current_gradient_accumulation_steps = 1
    plain.training_step(plain.model, make_batch(plain, range(64)))
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_two_processes_equal_one(tiny_corpus, tmp_path):
    """Super-batches that do not divide by two; chunks; and a run that goes on from within the curation epoch."""
    words = [*ALL, "--super_batch_size", "61", "--chunk_size", "20"]
    one = run_recipe(tiny_corpus, tmp_path / "one", *words, "--save_strategy", "steps", "--save_steps", "4")
    two = run_recipe(tiny_corpus, tmp_path / "two", *words, "--per_device_train_batch_size", "12", processes=2)
    assert kept_rows(one) == kept_rows(two)
    assert_same_weights(one, two)
    record = json.loads((two / "run.json").read_text())
    assert (record["pairs_scored"], record["flops"]["scored"]) == (0, 0)
    curation = 4 * 24 + record["corpus_pairs"]
    assert record["pairs_trained"] >= curation
    assert record["keep_share_reached"] == pytest.approx(0.3, abs=0.02)
    part = tmp_path / "part"
    part.mkdir()
    shutil.copytree(one / "checkpoint-4", part / "checkpoint-4")
    more = ["--save_strategy", "steps", "--save_steps", "4", "--resume_from_checkpoint", "last"]
    main([RECIPE, "--dataset_dir", str(tiny_corpus), "--output_dir", str(part), *words, *more])
    assert torch.equal(CurationState.load(part).roles, CurationState.load(one).roles)
    assert_same_weights(part, one, atol=0)


def test_pairs_with_embeddings_that_are_not_finite_are_left_out(tiny_corpus, tmp_path, capsys):
    trainer = make_trainer(tiny_corpus, tmp_path, *ALL, "--on_nonfinite", "skip")
    with torch.no_grad():
        trainer.model.text_projection.weight.fill_(torch.nan)
    assert (spent_first_step(trainer) == -1).all()
    assert "hardly a pair has finite features, so none is chosen" in capsys.readouterr().out
    assert trainer.skipped_batches == 1

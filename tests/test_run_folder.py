"""The folder of a run: what is written into it is whole, and an earlier run leaves nothing behind."""

import json

import pytest

from train.runs.checkpoints import STAGING
from train.runs.folder import LOG_FILE, MODEL, forget_earlier_run, replaced_whole, write_log


def test_a_folder_is_replaced_whole_or_stays_as_it_was(tmp_path):
    target = tmp_path / MODEL
    for text in ("first", "second"):
        with replaced_whole(target) as staged:
            (staged / "weights").write_text(text)
            assert target.exists() == (text == "second")
        assert (target / "weights").read_text() == text

    def fail(staged):
        (staged / "weights").write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"), replaced_whole(target) as staged:
        fail(staged)
    assert (target / "weights").read_text() == "second"
    with replaced_whole(target) as staged:
        assert not list(staged.iterdir()), "what was left of the failed one is gone"
    assert [path.name for path in tmp_path.iterdir()] == [MODEL]


def test_an_earlier_run_is_forgotten_but_its_checkpoints(tmp_path):
    for folder in (MODEL, STAGING, "checkpoint-3", "of-the-user"):
        (tmp_path / folder).mkdir()
    for file in ("run.json", LOG_FILE, "notes.txt"):
        (tmp_path / file).write_text("{}")
    forget_earlier_run(tmp_path, (MODEL, LOG_FILE, "never-written"))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-3", "of-the-user", "notes.txt"}


def test_the_log_is_json_whatever_the_figures_are(tmp_path):
    write_log([{"loss": 0.5, "step": 1}, {"grad_norm": float("inf"), "loss": float("nan"), "step": 2}], tmp_path)
    assert json.loads((tmp_path / LOG_FILE).read_text()) == [
        {"loss": 0.5, "step": 1},
        {"grad_norm": None, "loss": None, "step": 2},
    ]

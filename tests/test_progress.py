"""Progress: bars in a terminal, and few lines in a log, of our commands and of the libraries below them."""

import io
import sys
from itertools import count
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import transformers

from data_scripts.prepare.__main__ import main as prepare_main
from data_scripts.progress import LOG_SECONDS, progress
from train.pretrain.arguments import ModelArguments
from train.pretrain.training_arguments import CuratedTrainingArguments
from train.runs.recipes import DataArguments, parse_recipe


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def one_step_a_second(monkeypatch):
    """Each look at the clock is a second after the last one."""
    seconds = count()
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(seconds)))


def drawn(monkeypatch, to: io.StringIO, steps: int) -> str:
    monkeypatch.setattr(sys, "stderr", to)
    assert list(progress(range(steps), desc="work", miniters=1)) == list(range(steps))
    return to.getvalue()


def test_a_log_gets_a_line_now_and_then(monkeypatch, one_step_a_second):
    written = drawn(monkeypatch, io.StringIO(), 200)
    lines = written.splitlines()
    # tqdm looks at the clock once or twice a step.
    assert 200 // LOG_SECONDS - 1 <= len(lines) <= 400 // LOG_SECONDS + 1
    assert all(line.startswith("work: ") for line in lines)
    assert "200/200" in lines[-1]
    assert "\r" not in written
    assert written.endswith("\n")


def test_a_log_gets_no_line_of_short_work(monkeypatch):
    assert drawn(monkeypatch, io.StringIO(), 200) == ""


def test_a_terminal_gets_a_bar(monkeypatch, one_step_a_second):
    written = drawn(monkeypatch, Terminal(), 20)
    assert written.count("\r") > 20
    assert written.count("\n") == 1


def test_nested_work_moves_no_cursor_in_a_log(monkeypatch, one_step_a_second):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    for _ in progress(range(3), desc="outer"):
        list(progress(range(60), desc="inner"))
    assert {line.split(":")[0] for line in log.getvalue().splitlines()} == {"outer", "inner"}
    assert "\x1b" not in log.getvalue()


@pytest.fixture
def libraries():
    """The bars of the libraries, which are on unless a command has silenced them; on again afterwards."""

    def turn_on() -> None:
        datasets.enable_progress_bars()
        huggingface_hub.utils.enable_progress_bars()
        transformers.utils.logging.enable_progress_bar()

    turn_on()
    yield
    turn_on()


def test_a_command_leaves_few_lines_in_a_log(tmp_path, capfd, libraries):
    words = ["--num_records", "60", "--image_size", "32", "--film_size", "32", "--rows_per_shard", "10"]
    prepare_main(["synthetic", "--out", str(tmp_path / "data"), *words, "--num_workers", "1"])
    # Reading it back is the libraries' work: with bars.
    datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    assert len(capfd.readouterr().err.replace("\r", "\n").splitlines()) <= 2
    assert datasets.are_progress_bars_disabled()
    assert huggingface_hub.utils.are_progress_bars_disabled()
    assert not transformers.utils.logging.is_progress_bar_enabled()


@pytest.mark.parametrize(
    ("terminal", "asked", "disabled"),
    [(False, [], True), (True, [], False), (False, ["false"], False), (True, ["true"], True)],
)
def test_the_trainers_bar_is_for_terminals(monkeypatch, tmp_path, terminal, asked, disabled):
    recipe = tmp_path / "recipe.yaml"
    lines = (Path(__file__).parent / "tiny.yaml").read_text().splitlines()
    recipe.write_text("\n".join(line for line in lines if not line.startswith("disable_tqdm")))
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    words = [str(recipe), "--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path)]
    words += [word for value in asked for word in ("--disable_tqdm", value)]
    *_, training = parse_recipe((ModelArguments, DataArguments, CuratedTrainingArguments), words)
    assert training.disable_tqdm is disabled

"""`--method auto`: what it chooses by films and tower, that it says why, and what it refuses."""

import json

import pytest

from eval.records.runs import Run
from tests.adaptation import film, read_arguments, save_base, words, write_corpus
from train.adapt.__main__ import build_task, main
from train.adapt.choice import choose_method


def discs(count: int) -> list:
    return [film(number, {"Disc": number % 2}) for number in range(count)]


def task_of(folder, base):
    data = write_corpus(folder / "data", train=discs(40), validation=discs(20))
    arguments = read_arguments(*words("classification", base, data, folder / "run", "--method", "auto"))
    return arguments, build_task(arguments, arguments.data.read())


@pytest.fixture(scope="module")
def towers(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("towers")
    return {"vit": save_base(folder / "vit"), "resnet": save_base(folder / "resnet", "resnet")}


@pytest.mark.parametrize(
    ("tower", "films", "method", "rank"),
    [
        ("vit", 999, "lora", 4),
        ("vit", 1_000, "lora", 8),
        ("vit", 20_000, "lora", 32),
        ("resnet", 999, "linear", None),
        ("resnet", 1_000, "full", None),
        ("resnet", 50_000, "full", None),
    ],
)
def test_the_choice_follows_films_and_tower(towers, tmp_path, tower, films, method, rank):
    _, task = task_of(tmp_path, towers[tower])
    chosen = choose_method(task.model, task.parts, films)
    assert (chosen.method, chosen.rank) == (method, rank)
    assert f"{films:,} films" in chosen.reason


def test_a_run_is_that_of_the_method_and_says_why(towers, tmp_path, capsys):
    data = write_corpus(tmp_path / "data", train=discs(40), validation=discs(20))
    more = ["--method", "auto", "--max_steps", "2", "--eval_steps", "2"]
    main([*words("classification", towers["vit"], data, tmp_path / "run", *more)])
    run = Run.load(tmp_path / "run")
    assert (run.method, run.settings.get("method", "lora")) == ("lora", "lora")
    assert any(note.startswith("method auto: LoRA of rank 4") for note in run.notes)
    assert "method auto: LoRA of rank 4" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["learning_rate"] == 1e-3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--learning_rate", "1e-3"], "learning_rate depend on the method"),
        (["--base_precision", "bf16"], "base_precision depend on the method"),
        (["--head_start", "random"], "starts from the probe"),
        (["--use_dora", "true"], "belong to method lora, this is auto"),
    ],
)
def test_what_depends_on_the_method_is_refused(towers, tmp_path, more, message):
    data = write_corpus(tmp_path / "data", train=discs(8), validation=discs(4))
    with pytest.raises((SystemExit, ValueError), match=message):
        main([*words("classification", towers["vit"], data, tmp_path / "run", "--method", "auto", *more)])


@pytest.mark.parametrize("method", ["lora", "full"])
def test_learning_rates_go_by_the_method(towers, tmp_path, method):
    data = write_corpus(tmp_path / "data", train=discs(8), validation=discs(4))
    recipe = list(words("classification", towers["vit"], data, tmp_path / "run", "--method", method))
    assert "--learning_rate" not in recipe
    assert read_arguments(*recipe).training.learning_rate == {"lora": 1e-3, "full": 3e-4}[method]

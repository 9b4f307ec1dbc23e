"""The table of wishes: each command, argument, file and place that it names is there."""

import dataclasses
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest

import modeling_chexficient
from eval.benchmarks import BENCHMARKS, SUITES

FOLDER = Path(__file__).parents[1] / "model_cards"
PAGE = (FOLDER / "wishes.md").read_text()
ROWS = re.findall(r"^\| (\d+) \| (.+) \| (.+) \| (.+) \|$", PAGE, flags=re.MULTILINE)
COMMANDS = [command for row in ROWS for command in re.findall(r"`(python -m [^`]+)`", row[2])]


def test_there_are_fifteen():
    assert [int(number) for number, *_ in ROWS] == list(range(1, 16))
    assert len(COMMANDS) >= 16


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[2])
def test_modules_and_arguments_are_there(command):
    _, _, name, *words = shlex.split(command)
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    given = {word.removeprefix("--") for word in words if word.startswith("--")}
    classes = [one for one in vars(module).values() if dataclasses.is_dataclass(one) and inspect.isclass(one)]
    known = {field.name for one in classes for field in dataclasses.fields(one)}
    known |= set(re.findall(r'add_argument\(\s*"--([\w-]+)"', inspect.getsource(module)))
    assert given <= known, given - known
    for argument, names in (("--suite", SUITES), ("--benchmark", BENCHMARKS)):
        assert argument not in words or words[words.index(argument) + 1] in names


def test_places_in_pages_are_there():
    for target, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", PAGE):
        page = FOLDER / target
        assert page.is_file(), target
        headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], anchor
    assert "](model_cards/wishes.md)" in (FOLDER.parent / "README.md").read_text()


def test_python_words_are_those_of_the_package():
    from modeling_chexficient import pipelines_chexficient

    source = inspect.getsource(pipelines_chexficient)
    for argument in ("check_input", "threshold"):
        assert f"{argument}=" in PAGE
        assert argument in source
    assert '"validated"' in source
    assert hasattr(modeling_chexficient.CheXficientModel, "get_image_features")

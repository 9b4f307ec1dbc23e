"""Recipes: dataclasses of arguments, read from YAML and the command line."""

from __future__ import annotations

import difflib
import json
import re
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import yaml
from transformers import HfArgumentParser

from data_scripts.command_line import command_name
from data_scripts.progress import shows_bars
from train.runs.field_metadata import RECORDED, RESUME, UNSET

if TYPE_CHECKING:
    from data_scripts.prepared.mixture import Mixture


#: Shows every argument of a run.
HELP_ALL = "--help_all"


@dataclass
class DataArguments:
    """What is trained on: prepared folders as they are, or a mixture of them."""

    dataset_dir: list[str] = field(
        default_factory=list,
        metadata={"help": "Prepared dataset folder(s), see data_scripts.prepare.", "recorded": False},
    )
    mixture: str | None = field(
        default=None,
        metadata={
            "help": "YAML file of prepared folders with weights and caps: data_scripts.prepared.mixture.",
            "recorded": False,
        },
    )

    subset: str | None = field(
        default=None,
        metadata={
            "help": "Train on the films of this file of record ids alone (data_scripts.prepared.subsets). The same "
            "max_steps for subsets of all sizes is equal compute; the same num_train_epochs is equally many passes, "
            "which cost more the larger the subset.",
            "recorded": False,
        },
    )

    def __post_init__(self):
        if isinstance(self.dataset_dir, str):
            self.dataset_dir = [self.dataset_dir]
        twice = sorted({folder for folder in self.dataset_dir if self.dataset_dir.count(folder) > 1})
        if twice:
            raise ValueError(f"dataset_dir names {twice} twice, whose films would count twice: leave one out")
        if self.dataset_dir and self.mixture:
            raise ValueError("give dataset_dir or mixture, not both")
        if not self.dataset_dir and not self.mixture:
            raise ValueError("dataset_dir is missing: name at least one prepared dataset folder, or a mixture")

    def read(self) -> Mixture:
        """The folders with weights and caps, whichever way they were given, and the subset."""
        # Here, since every `--help` reads this file: the module opens datasets, which takes seconds to import.
        from data_scripts.prepared.mixture import Mixture, Part, read_mixture

        if self.mixture:
            return replace(read_mixture(Path(self.mixture)), subset=self.subset)
        return Mixture(tuple(Part(folder) for folder in self.dataset_dir), subset=self.subset)


class RecipeLoader(yaml.SafeLoader):
    """YAML 1.1 reads `5e-5` as text; here it is the number everybody means."""


RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class _Parser(HfArgumentParser):
    def __init__(self, dataclasses: tuple[type, ...], **options):
        usage = "%(prog)s [RECIPE.yaml] [--ARGUMENT VALUE ...]"
        super().__init__(dataclasses, prog=command_name(), usage=usage, **options)

    def add_argument(self, *names: str, **options):
        """As ever, without the metadata of fields that is for `train.runs.arguments`."""
        return super().add_argument(
            *names, **{name: value for name, value in options.items() if name not in (RESUME, RECORDED, UNSET)}
        )

    def error(self, message: str):
        """A plain error in place of argparse's, which prints the hundreds of arguments before it."""
        raise ValueError(message)


def parse_recipe(dataclasses: tuple[type, ...], arguments: list[str] | None = None) -> tuple:
    """Dataclasses from `[RECIPE.yaml] [--name value ...]`; what the command line names overrides the recipe.

    Args:
        arguments: None takes the process'.

    Raises:
        ValueError: the recipe cannot be read, names an argument that does not exist (with the closest one that
            does), or a value is of the wrong type or none of the choices.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _Parser(dataclasses)
    if HELP_ALL in arguments:
        parser.print_help()
        raise SystemExit(0)
    if any(argument.name == "disable_tqdm" for cls in dataclasses for argument in fields(cls)):
        parser.set_defaults(disable_tqdm=not shows_bars())
    if arguments and not arguments[0].startswith("-"):
        recipe = _read_recipe(Path(arguments[0]), [argument.name for cls in dataclasses for argument in fields(cls)])
        # Through the parser, so that types and choices are checked as on the command line; only it has no null.
        parser.set_defaults(**{name: None for name, value in recipe.items() if value is None})
        words = [word for name, value in recipe.items() if value is not None for word in as_words(name, value)]
        arguments = [*words, *arguments[1:]]
    return parser.parse_args_into_dataclasses(arguments)


def asks_for_help(words: list[str]) -> bool:
    return bool({"-h", "--help"} & set(words))


def show_own_help(dataclasses: tuple[type, ...]) -> NoReturn:
    """Print the arguments of a command that are ours, and end.

    `transformers.TrainingArguments` has a hundred more and takes five seconds to import: `--help_all` shows them.

    Args:
        dataclasses: those that stand apart from `TrainingArguments`.
    """
    parser = _Parser(
        dataclasses,
        epilog="Arguments of transformers.TrainingArguments are arguments, too (output_dir, seed, bf16, save_strategy, "
        "eval_strategy, resume_from_checkpoint ...): --help_all shows all.",
    )
    parser.print_help()
    raise SystemExit(0)


def _read_recipe(path: Path, known: list[str]) -> dict:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such recipe")
    try:
        recipe = yaml.load(path.read_text(), Loader=RecipeLoader) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML ({error})") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: a recipe is a mapping of arguments to values")
    for name in recipe:
        if name not in known:
            closest = difflib.get_close_matches(str(name), known, n=1)
            hint = f", did you mean {closest[0]!r}?" if closest else ""
            raise ValueError(f"{path}: unknown argument {name!r}{hint}")
    return recipe


def as_mapping(name: str, given: str | dict | None) -> dict | None:
    """An argument that is a mapping in a recipe, and JSON on the command line, where `null` takes back the recipe's.

    Raises ValueError, which names it, where it is neither.
    """
    if not isinstance(given, str):
        return given
    try:
        mapping = json.loads(given)
    except ValueError as error:
        raise ValueError(f"{name} is {given!r}, which is no JSON: {error}") from error
    if not isinstance(mapping, dict | None):
        raise ValueError(f"{name} is {given!r}, it must be a mapping, as '{{\"model_type\": ...}}'")
    return mapping


def as_words(name: str, value) -> list[str]:
    """A value of a recipe as words of a command line."""
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]

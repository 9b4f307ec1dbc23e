"""Reads a study file. One looks like this:

    output_dir: runs/my_study
    prepare:                                  # once, in this order; skipped where `makes` is there
      data:
        command: data_scripts.prepare synthetic
        arguments: {out: runs/my_study/data}
        makes: runs/my_study/data/summary.json
    grids:
      findings:                               # cells are in output_dir/findings/ARM-LABEL_SHARE-SEED
        command: train.adapt train/recipes/classification.yaml
        arguments: {dataset_dir: runs/my_study/data}
        arms:                                 # how each differs
          lora: {method: lora}
          full: {method: full, learning_rate: 5e-4}
        axes: {label_share: [0.01, 1.0]}      # further axes: values of an argument, or names with arguments as in arms
        seeds: [0, 1, 2]
        where:                                # arguments of some cells
          - {cells: {arm: lora, label_share: 0.01}, arguments: {rank: 4}}
        compare: {arguments: {out: runs/my_study/findings_compared}}

`compare: {beside: [OTHER_GRID], ...}` sets the cells of several grids, such as those of two trainers, side by side.
A trainer that does not evaluate its result has `evaluate: {arguments: {data: DIR}, results: [zero_shot_findings]}` in
its grid. All paths are as seen from where the command is started.

A study that is not of one place and corpus has `options: {raw: null, smallest: 300}`: `${raw}` and `${smallest}` stand
for them in any value of the file, and the command line sets them, as `--raw DIR`; those that are null must be set.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from train.runs.recipes import RecipeLoader
from train.studies.plan import Comparison, Condition, Evaluation, Grid, Step, Study, as_list

T = TypeVar("T")
#: What the study itself gives to every cell.
_OWN_ARGUMENTS = ("output_dir", "resume_from_checkpoint")
#: The kinds of YAML, as the type hints of fields begin.
_KINDS = {"str": (str, "text"), "list": (list, "list"), "dict": (dict, "mapping")}
_PLACE = re.compile(r"\$\{(\w*)\}")


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. Raises ValueError if there is no such file, or it is not YAML."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        return yaml.load(path.read_text(), Loader=RecipeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML ({error})") from error


def read_options(path: Path) -> dict[str, Any]:
    """The options of a study file with their defaults; None: it must be given.

    Raises:
        ValueError: the file cannot be read, or an option is no plain value.
    """
    study = read_yaml(path)
    options = (study.get("options") or {}) if isinstance(study, dict) else {}
    plain = isinstance(options, dict) and all(
        str(name).isidentifier() and isinstance(value, str | int | float | None) for name, value in options.items()
    )
    if not plain:
        raise ValueError(f"{path}: options are names, each with a text, a number, true, false or null")
    return options


def read_study(path: Path, given: Mapping[str, Any] | None = None) -> Study:
    """The study in a file.

    Args:
        given: values of its options in place of the defaults.

    Raises:
        ValueError: the file cannot be read, has an unknown key (the closest known one is named), lacks one, or a value
            is of the wrong kind; an option without a default is not given.
    """
    options = read_options(path)
    for name in given or {}:
        check_known(name, options, f"{path}: option")
    options |= given or {}
    missing = [f"--{name}" for name, value in options.items() if value is None]
    if missing:
        raise ValueError(f"{path} needs {', '.join(missing)}: see the top of the file for what they are")
    values = read_yaml(path)
    study = _build(Study, _put(values, options, str(path)), str(path))
    # YAML reads a name such as 50 as a number.
    grids = {str(name): _read_grid(grid, f"{path}: grids.{name}") for name, grid in study.grids.items()}
    steps = {name: _build(Step, step, f"{path}: prepare.{name}") for name, step in study.prepare.items()}
    for name, grid in grids.items():
        for other in grid.compare.beside if grid.compare is not None else ():
            check_known(other, grids, f"{path}: grids.{name}.compare.beside: grid")
    _check_arguments(study.arguments, f"{path}: arguments", _OWN_ARGUMENTS)
    for name, step in steps.items():
        _check_arguments(step.arguments, f"{path}: prepare.{name}")
    if not grids:
        raise ValueError(f"{path}: grids is empty: there is nothing to run")
    return dataclasses.replace(study, grids=grids, prepare=steps, options=options)


def _put(value: Any, options: Mapping[str, Any], where: str) -> Any:
    """Options in place of `${NAME}`, as they are where that is the whole value, as text within one."""
    if isinstance(value, dict):
        return {name: _put(one, options, where) for name, one in value.items()}
    if isinstance(value, list):
        return [_put(one, options, where) for one in value]
    if not isinstance(value, str):
        return value
    for name in _PLACE.findall(value):
        check_known(name, options, f"{where}: {value!r}: option")
    whole = _PLACE.fullmatch(value)
    return options[whole[1]] if whole else _PLACE.sub(lambda found: str(options[found[1]]), value)


def _read_grid(values: Any, where: str) -> Grid:
    grid = _build(Grid, values, where)
    conditions = [_build(Condition, entry, f"{where}.where") for entry in grid.where]
    evaluate = None if grid.evaluate is None else _build(Evaluation, grid.evaluate, f"{where}.evaluate")
    compare = None if grid.compare is None else _build(Comparison, grid.compare, f"{where}.compare")
    grid = dataclasses.replace(grid, where=conditions, evaluate=evaluate, compare=compare)
    for axis, values in grid.axes.items():
        if axis in ("arm", "seed") or not isinstance(values, dict | list) or not values:
            raise ValueError(f"{where}.axes.{axis}: an axis (but for arms and seeds) has a list or mapping of values")
        unnamed = [value for value in values if isinstance(value, dict | list) or "/" in str(value)]
        if unnamed:
            raise ValueError(
                f"{where}.axes.{axis}: {unnamed[0]!r} makes no name of a folder: write NAME: {{{axis}: VALUE}}"
            )
    axes = grid.values()
    given = {f".{axis}.{value}": arguments for axis, values in axes.items() for value, arguments in values.items()}
    given[".arguments"] = grid.arguments
    for place, arguments in given.items():
        _check_arguments(arguments, where + place, _OWN_ARGUMENTS)
    for condition in conditions:
        _check_arguments(condition.arguments, f"{where}.where", _OWN_ARGUMENTS)
        for axis, wanted in condition.cells.items():
            check_known(axis, axes, f"{where}.where: axis")
            for value in as_list(wanted):
                check_known(value, axes[axis], f"{where}.where: {axis}")
    return grid


def _build(kind: type[T], values: Any, where: str) -> T:
    """A dataclass from a mapping of YAML; what is nested stays as it is."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a mapping, found {values!r}")
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in values.items():
        check_known(name, known, f"{where}: key")
        expected, words = next(
            (kinds for hint, kinds in _KINDS.items() if known[name].type.startswith(hint)), (object, "")
        )
        if not isinstance(value, expected):
            raise ValueError(f"{where}: {name} is {value!r}, expected a {words}")
    required = (field.name for field in known.values() if field.default is field.default_factory is dataclasses.MISSING)
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} missing")
    return kind(**values)


def _check_arguments(arguments: Any, where: str, own: Iterable[str] = ()) -> None:
    if not isinstance(arguments, dict):
        raise ValueError(f"{where}: expected a mapping of arguments, found {arguments!r}")
    for name, value in arguments.items():
        if name in own:
            raise ValueError(f"{where}: {name} is chosen by the study: leave it out")
        if value is None:
            raise ValueError(f"{where}: {name} is null, which a command line cannot say: write it into the recipe")


def check_known(name: Any, known: Mapping | Iterable, what: str) -> None:
    """Raise ValueError where `name` is none of the known ones, naming the closest."""
    known = list(known)
    if name not in known:
        closest = difflib.get_close_matches(str(name), map(str, known), n=1)
        hint = f"did you mean {closest[0]!r}?" if closest else f"there are {known}"
        raise ValueError(f"{what} {name!r} is unknown, {hint}")

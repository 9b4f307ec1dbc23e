"""Arguments in a YAML file, in the place of those on the command line."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import yaml


def read_mapping(path: Path, options_class: type) -> dict[str, Any]:
    """Values by argument of `options_class`, as `path` names them.

    Raises:
        ValueError: the file is missing or of another form, an argument is unknown, or a value of the wrong kind.
    """
    if not path.is_file():
        raise ValueError(f"mapping {path}: there is no such file")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except yaml.YAMLError as error:
        raise ValueError(f"mapping {path}: not YAML ({error})") from error
    if not isinstance(given, dict):
        raise ValueError(f"mapping {path}: lines of the form 'image_column: file' are expected")
    known = {option.name: option for option in dataclasses.fields(options_class)}
    for name, value in given.items():
        if name not in known:
            closest = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f", the closest is {closest[0]!r}" if closest else ""
            raise ValueError(f"mapping {path}: there is no argument {name!r}{hint}")
        option = known[name]
        plain = option.default_factory is dataclasses.MISSING
        _check_kind(path, name, value, option.default if plain else option.default_factory())
    return given


def _check_kind(path: Path, name: str, value, default) -> None:
    if isinstance(default, list):
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
    elif isinstance(default, float):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        fits = type(value) is (str if default is None else type(default))
    if not fits:
        kind = "text" if default is None else type(default).__name__
        raise ValueError(f"mapping {path}: {name} is {value!r}, expected is {kind} (quote what must be text)")

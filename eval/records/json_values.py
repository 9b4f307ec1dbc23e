"""Dataclasses as JSON and back: one file is one dataclass, nested as its type hints say.

JSON knows no NaN, so it is written as null. Read again, null in a field of type `float` is NaN, and in one of type
`float | None` it is None ("not defined"); in a plain `dict` or `list`, which does not say what it holds, it is None.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import types
import typing
from pathlib import Path
from typing import Any

#: What JSON gives for these type hints; a whole number may have been written for a float.
_PLAIN: dict[type, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    list: (list,),
    dict: (dict,),
}


def write_json(value: Any, path: Path) -> None:
    """Write a dataclass (or plain values) as JSON, NaN as null; the file is written atomically."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n")
    unfinished.replace(path)


def check_writable(path: Path) -> None:
    """Make the folder of a file. Raises ValueError where the file (`--out`) could not be written into it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}. Name another place by --out") from error


def from_json(kind: Any, value: Any) -> Any:
    """What `value`, as read from JSON, is as a `kind`: a dataclass, a plain value, or lists, dicts and unions of them.

    Raises:
        TypeError: a field of a dataclass is missing, there is one that it does not have, or a value is of another type
            than its hint says; the message names the field.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass_from_json(kind, value)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union_from_json(inner, value)
    if origin in (list, dict):
        _check_type(origin, value)
        if origin is list:
            return [from_json(inner[0], item) for item in value]
        return {key: from_json(inner[1], item) for key, item in value.items()}
    if kind is float and value is None:
        return math.nan
    if kind in _PLAIN:
        _check_type(kind, value)
    return value


def _dataclass_from_json(kind: Any, value: Any) -> Any:
    _check_type(dict, value)
    hints, values = typing.get_type_hints(kind), {}
    for name, item in value.items():
        try:
            values[name] = from_json(hints.get(name, Any), item)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from error
    return kind(**values)


def _union_from_json(kinds: tuple, value: Any) -> Any:
    """The first of several types that fits; None where it is one of them."""
    if value is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    for kind in others[:-1]:
        try:
            return from_json(kind, value)
        except TypeError:
            continue
    return from_json(others[-1], value)


def _check_type(kind: type, value: Any) -> None:
    # To Python a bool is an int.
    if not isinstance(value, _PLAIN[kind]) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")


def _without_nan(value: Any) -> Any:
    """NaN is not JSON: null instead."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value

"""Dataclasses as JSON and back: one file is one dataclass, nested as its type hints say."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
import typing
from pathlib import Path
from typing import Any


def write_json(value: Any, path: Path) -> None:
    """Write a dataclass (or plain values) as JSON, NaN as null; a file of the name appears whole or not at all."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n")
    unfinished.replace(path)


def from_json(kind: Any, value: Any) -> Any:
    """What `value`, as read from JSON, is as a `kind`: dataclasses, lists, dicts and `X | None` of them; others as is.

    Raises:
        TypeError: a field of a dataclass is missing, or there is one that it does not have.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: from_json(hints.get(name, Any), one) for name, one in value.items()})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else from_json(next(one for one in inner if one is not types.NoneType), value)
    if origin is list:
        return [from_json(inner[0], one) for one in value]
    if origin is dict:
        return {key: from_json(inner[1], one) for key, one in value.items()}
    return value


def _without_nan(value: Any) -> Any:
    """NaN is not JSON: null instead."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value

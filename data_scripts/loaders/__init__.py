"""One module per corpus, named as on the command line; the contract is in `data_scripts.schema`."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from types import ModuleType

from data_scripts.schema import DataError

#: Every module of this folder is a loader.
LOADERS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")))


def load_loader(name: str) -> ModuleType:
    if name not in LOADERS:
        raise DataError(f"unknown loader {name!r}, there are {', '.join(LOADERS)}")
    return importlib.import_module(f"data_scripts.loaders.{name}")


def parts_of(name: str) -> list[str]:
    """Loaders whose films are part of this loader's."""
    return [part for part in LOADERS if name in load_loader(part).SOURCE.shares_films_with]


@cache
def sharing_films(name: str) -> frozenset[str]:
    """Loaders whose corpora share films or patients with this one, or may, as both took films from a third.

    Empty for what is no loader.
    """
    if name not in LOADERS:
        return frozenset()
    wholes = load_loader(name).SOURCE.shares_films_with
    found = {*wholes, *parts_of(name), *(part for whole in wholes for part in parts_of(whole))}
    return frozenset(found - {name})

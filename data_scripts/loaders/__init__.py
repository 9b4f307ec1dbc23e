"""One module per corpus, named as on the command line; the contract is in `data_scripts.schema`."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from data_scripts.schema import DataError

#: Every module of this folder is a loader.
LOADERS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")))


def load_loader(name: str) -> ModuleType:
    if name not in LOADERS:
        raise DataError(f"unknown loader {name!r}, there are {', '.join(LOADERS)}")
    return importlib.import_module(f"data_scripts.loaders.{name}")

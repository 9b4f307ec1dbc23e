"""Whether films and texts of prepared data may be shown to anybody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Seconds of importing, for a name.
    from datasets import Dataset

from data_scripts.loaders import LOADERS, load_loader

#: Kinds of access (data_scripts.schema.Source) under which anybody may see the films.
PUBLIC = ("synthetic", "open")


def may_be_shown(dataset: Dataset, folders: Sequence[str]) -> bool:
    """Whether all films are known to be synthetic or open.

    Both must say so: the source of every row, and what prepared each of the folders (their `summary.json`), since a
    user's own table may be given any source name.
    """
    if "source" not in dataset.column_names:
        return False
    makers = [*dataset.unique("source"), *(loader_of(folder) for folder in folders)]
    return bool(folders) and all(access_of(maker) in PUBLIC for maker in makers)


def access_of(loader: str | None) -> str | None:
    """The access of a corpus by the name of its loader, None where there is no such loader."""
    return load_loader(loader).SOURCE.access if loader in LOADERS else None


def loader_of(folder: str | Path) -> str | None:
    """The loader that made a prepared folder, by its `summary.json`; None where there is none or it does not say."""
    summary = Path(folder) / "summary.json"
    return json.loads(summary.read_text()).get("loader") if summary.is_file() else None

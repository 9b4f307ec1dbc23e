"""Opening prepared dataset folders, with errors that say what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
from datasets import DatasetDict
from datasets.exceptions import DatasetGenerationError

from data_scripts.schema import TEXT_ALONE, DataError


def load_prepared(folder: str, columns: tuple[str, ...]) -> DatasetDict:
    """All splits of a prepared folder (or of any dataset that has the columns).

    Raises:
        DataError: no dataset is there, its preparation was interrupted, a file is damaged, a column is missing, or
            films are asked for and it holds texts alone.
    """
    path = Path(folder)
    if (path / ".prepare").is_dir() and not (path / "summary.json").is_file():
        raise DataError(
            f"{folder}: the preparation was not finished; run the same `data_scripts.prepare` command again"
        )
    if "image" in columns and _texts_alone(path):
        raise DataError(f"{folder}: holds texts without films (--texts_alone): prepare the corpus with its films")
    try:
        splits = datasets.load_dataset(folder)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder!r} is not a prepared dataset ({error}): make one with "
            "`python -m data_scripts.prepare LOADER --raw DIR --out DIR`"
        ) from error
    except DatasetGenerationError as error:
        raise DataError(
            f"{folder}: a file cannot be read ({error.__cause__ or error}); prepare the data anew"
        ) from error
    for name, split in splits.items():
        missing = sorted(set(columns) - set(split.column_names))
        if missing:
            raise DataError(f"{folder}, split {name!r}: column(s) {missing} are missing, it has {split.column_names}")
    return splits


def _texts_alone(path: Path) -> bool:
    summary = path / "summary.json"
    return summary.is_file() and json.loads(summary.read_text()).get("modes", {}).get(TEXT_ALONE, 0) > 0

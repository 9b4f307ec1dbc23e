"""Opening prepared dataset folders, with errors that say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import datasets
from datasets import DatasetDict
from datasets.exceptions import DatasetGenerationError

from data_scripts.schema import DataError


def load_prepared(folder: str, columns: tuple[str, ...]) -> DatasetDict:
    """All splits of a prepared folder (or of any dataset that has the columns).

    Raises:
        DataError: no dataset is there, its preparation was interrupted, a file is damaged, or a column is missing.
    """
    path = Path(folder)
    if (path / ".prepare").is_dir() and not (path / "summary.json").is_file():
        raise DataError(
            f"{folder}: the preparation was not finished; run the same `data_scripts.prepare` command again"
        )
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

"""Files of record ids, one a line, by which a training split is limited to some of its films."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from data_scripts.schema import DataError

#: So many of the ids that are not there are named.
_NAMED = 5


def read_ids(path: Path) -> list[str]:
    """The ids of a file, in its order.

    Raises:
        DataError: there is no such file, it is empty, or names an id twice.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of ids; python -m data_scripts.prepared.subsets writes some")
    ids = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    if not ids:
        raise DataError(f"{path}: holds no ids")
    (most, times), *_ = Counter(ids).most_common(1)
    if times > 1:
        raise DataError(f"{path}: names {most!r} {times} times")
    return ids


def write_ids(ids: Sequence[str], path: Path) -> None:
    """Write a file for `read_ids`."""
    path.write_text("".join(f"{record_id}\n" for record_id in ids), encoding="utf-8")


def rows_of_ids(record_ids: Sequence[str], wanted: Sequence[str], name: str) -> np.ndarray:
    """Rows [n] of the split `record_ids` whose id is wanted, in the order of the split; of an id that it repeats, all.

    Args:
        name: of the file that `wanted` is from.

    Raises:
        DataError: ids that the split has not.
    """
    missing = sorted(set(wanted) - set(record_ids))
    if missing:
        raise DataError(
            f"{name}: {len(missing):,} of its {len(wanted):,} ids are not in the training split of the data, the "
            f"first: {missing[:_NAMED]}. Give the folders that it was made from, or make it anew"
        )
    kept = set(wanted)
    return np.flatnonzero([record_id in kept for record_id in record_ids])


def check_told_apart(folders: Sequence[str], ids: Sequence[Collection[str]]) -> None:
    """Raise DataError where films of two of the `folders` have one of the `ids` of each, so that a file of ids would
    mean both.
    """
    folder_of: dict[str, str] = {}
    for folder, of_folder in zip(folders, ids, strict=True):
        for record_id in set(of_folder).intersection(folder_of):
            raise DataError(
                f"{record_id!r} is a film of {folder_of[record_id]} and one of {folder}, which a file of ids cannot "
                "tell apart: prepare one of the folders with another --source_name"
            )
        folder_of |= dict.fromkeys(of_folder, folder)


def check_nested(files: Sequence[Path]) -> None:
    """Raise DataError, which names both, where a file lacks an id of the one before it, or has no more than it."""
    smaller: set[str] = set()
    for number, path in enumerate(files):
        ids = set(read_ids(path))
        lacking = smaller - ids
        if lacking:
            raise DataError(
                f"{path} lacks {len(lacking):,} ids of the smaller subset {files[number - 1]}, such as "
                f"{min(lacking)!r}: the sizes do not nest. Write them in one go with data_scripts.prepared.subsets"
            )
        if len(ids) == len(smaller):
            raise DataError(f"{files[number - 1]} and {path} hold the same films: sizes must rise")
        smaller = ids

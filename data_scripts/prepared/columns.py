"""Whole columns of a prepared split. `dataset["name"]` makes each value by itself: a hundred times slower."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    # Seconds of importing, for a name.
    from datasets import Dataset

_ROWS_AT_ONCE = 10_000


def arrow_column(dataset: Dataset, name: str, rows: Sequence[int] | np.ndarray | None = None) -> pa.Array:
    """The column `name` in one piece, of all rows or of `rows` [n], in their order."""
    column = dataset.select_columns([name])
    if rows is not None:
        column = column.select(rows)
    if len(column) == 0:
        return pa.array([], dataset.features.arrow_schema.field(name).type)
    values = column.with_format("arrow")[:][name]
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def read_column(dataset: Dataset, name: str, rows: Sequence[int] | np.ndarray | None = None) -> list:
    """The values of the column `name` as Python has them, of all rows or of `rows` [n], in their order."""
    return arrow_column(dataset, name, rows).to_pylist()


def iterate_column(dataset: Dataset, name: str) -> Iterator:
    """The values of the column `name` one by one, of which few are in memory at a time."""
    for table in dataset.select_columns([name]).with_format("arrow").iter(_ROWS_AT_ONCE):
        yield from table[name].to_pylist()

"""Reading tables (CSV, TSV, JSON lines, Parquet) as text, with errors that say which column is missing."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from data_scripts.schema import DataError


def read_table(path: Path) -> pd.DataFrame:
    """All values as text, blanks as ""; utf-8 (with or without BOM), else latin-1.

    Raises:
        DataError: the table is missing, of an unknown kind, or cannot be parsed.
    """
    if not path.is_file():
        raise DataError(f"{path}: the table is missing")
    readers = {".csv": _read_csv, ".gz": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: unknown kind of table, use one of {sorted(readers)}")
    try:
        return readers[path.suffix.lower()](path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def _read_csv(path: Path) -> pd.DataFrame:
    separator = "\t" if ".tsv" in path.suffixes else ","
    # Without index_col=False, a row with a field too many would shift all columns; with it, pandas warns.
    options = {"sep": separator, "dtype": str, "keep_default_na": False, "index_col": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, encoding="utf-8-sig", **options)
        except UnicodeDecodeError:
            return pd.read_csv(path, encoding="latin-1", **options)
        except pd.errors.ParserWarning as warning:
            raise ValueError(f"rows have more fields than the header: {warning}") from warning


def _read_jsonl(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True, dtype=False, convert_dates=False).map(_as_text)


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).map(_as_text)


def _as_text(value) -> str:
    if isinstance(value, (list, tuple, dict, np.ndarray)):
        return str(value)
    if value is None or value is pd.NA or value != value:
        return ""
    # 1.0 in a column of whole numbers is how pandas stores 1 beside a blank.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def require_columns(table: pd.DataFrame, columns: Iterable[str], path: Path) -> None:
    """Raise `DataError` naming the first missing column, the closest match and what is there."""
    for column in columns:
        if column not in table.columns:
            closest = difflib.get_close_matches(column, list(table.columns), n=1, cutoff=0.5)
            hint = f"; the closest is {closest[0]!r}" if closest else ""
            raise DataError(f"{path}: column {column!r} is missing{hint}; the table has {list(table.columns)}")


def rows_of(table: pd.DataFrame) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of the row (the first below the header is 1) and the row as a dict."""
    for number, values in enumerate(table.itertuples(index=False, name=None), start=1):
        yield number, dict(zip(table.columns, values, strict=True))

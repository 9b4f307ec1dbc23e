"""Reading tables (CSV, TSV, JSON lines, Parquet) as text, with errors that say which column is missing."""

from __future__ import annotations

import difflib
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_scripts.reading.blanks import cell
from data_scripts.reading.delimited import read_delimited
from data_scripts.reading.encodings import decode_text
from data_scripts.schema import DataError

#: Usual separator by the ending of the file.
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_SHEETS = (".xlsx", ".xls", ".ods")
_GZIP = b"\x1f\x8b"
#: Whole numbers from here on are not exact as floats.
_FIRST_INEXACT = 2**53
#: What a spreadsheet or a float makes of a long number.
_LOST_DIGITS = r"\d(?:\.\d+)?[eE]\+\d{2,3}|\d\.\d+[eE]\d{1,3}|\d{16,}\.0+"


def is_table(path: Path) -> bool:
    """Whether the name of a file is that of a table that `read_table` takes."""
    return _kind(path) in (*_SEPARATORS, ".jsonl", ".parquet")


def _kind(path: Path) -> str:
    """The ending of a name in small letters, without .gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if suffixes[-1:] == [".gz"] and suffixes[-2:-1] else "".join(suffixes[-1:])


def read_table(path: Path, encoding: str | None = None, allow_short_rows: bool = True) -> pd.DataFrame:
    """All values as text from the first byte on, so that ids keep their digits; blanks are "".

    Args:
        path: .csv, .tsv or .txt (comma, tab, semicolon or vertical bar), .jsonl, each also with .gz, or .parquet.
        encoding: of all but Parquet; None: see `encodings.decode_text`.
        allow_short_rows: rows with fewer fields than the header end in blanks; otherwise they are refused.

    Raises:
        DataError: the table is missing, of an unknown kind, or cannot be parsed.
    """
    if not path.is_file():
        raise DataError(f"{path}: the table is missing")
    kind = _kind(path)
    if not is_table(path):
        hint = "save the sheet as CSV" if kind in _SHEETS else "use one of"
        raise DataError(f"{path}: unknown kind of table, {hint} {[*_SEPARATORS, '.jsonl', '.parquet']}")
    try:
        if kind == ".parquet":
            return _read_parquet(path)
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(_GZIP) else content
        text = decode_text(content, str(path), encoding)
        return _read_jsonl(text) if kind == ".jsonl" else read_delimited(text, _SEPARATORS[kind], allow_short_rows)
    except DataError:
        raise
    except (ValueError, OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a table ({error})") from error


def _read_jsonl(text: str) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame([[_as_text(row.get(name)) for name in names] for row in rows], columns=names, dtype=str)


def _read_parquet(path: Path) -> pd.DataFrame:
    # By pandas, whole numbers beside a blank would become floats, which keep 16 digits.
    table = pq.ParquetFile(path).read()
    names = [name for name in table.column_names if not name.startswith("__index_level_")]
    return pd.DataFrame({name: list(map(_as_text, table[name].to_pylist())) for name in names}, dtype=str)


def _as_text(value) -> str:
    if isinstance(value, (list, tuple, dict)):
        return str(value)
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    # 1.0 in a column of whole numbers is how pandas stores 1 beside a blank; larger ones have lost digits already.
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _FIRST_INEXACT
    return str(int(value)) if is_whole else str(value)


def mend_ids(table: pd.DataFrame, columns: Iterable[str], path: Path) -> None:
    """Check columns of ids in place: "5.0" is 5 where programs have made decimals of the whole column.

    Raises:
        DataError: an id has lost digits ("1.1E+17"), or a column has both "5" and "5.0"; it names column and row.
    """
    for column in dict.fromkeys(columns):
        values = table[column].map(cell)
        lost = values.str.fullmatch(_LOST_DIGITS)
        if lost.any():
            number = int(lost.to_numpy().argmax())
            raise DataError(
                f"{path} row {number + 1}: column {column!r} is {values.iloc[number]!r}: a program took the id for a "
                "decimal number, and its last digits are lost; export the column as text",
                "id has lost digits",
            )
        decimal = values.str.fullmatch(r"\d+\.0+")
        if not decimal.any():
            continue
        whole = values.where(~decimal, values.str.replace(r"\.0+$", "", regex=True))
        both = decimal & whole.isin(set(values[~decimal]))
        if both.any():
            number = int(both.to_numpy().argmax())
            raise DataError(
                f"{path} row {number + 1}: column {column!r} is {values.iloc[number]!r}, and another row has "
                f"{whole.iloc[number]!r}: write one of them in all rows, or ids that differ more",
                "id written in two ways",
            )
        if (decimal | (values == "")).all():
            table[column] = whole


def require_columns(table: pd.DataFrame, columns: Iterable[str], path: Path) -> None:
    """Raise `DataError` naming the first missing column, the closest match and what is there."""
    for column in columns:
        if column not in table.columns:
            # One column: the separator is not one of those that are known.
            only = " (one column alone: which separator or encoding has it?)" if len(table.columns) == 1 else ""
            closest = difflib.get_close_matches(column, list(table.columns), n=1, cutoff=0.5)
            hint = f"; the closest is {closest[0]!r}" if closest else ""
            raise DataError(f"{path}: column {column!r} is missing{hint}; the table has {list(table.columns)}{only}")


def rows_of(table: pd.DataFrame) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of the row (the first below the header is 1) and the row as a dict."""
    for number, values in enumerate(table.itertuples(index=False, name=None), start=1):
        yield number, dict(zip(table.columns, values, strict=True))

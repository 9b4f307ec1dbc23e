"""Text with a separator (CSV, TSV, semicolons) cut into rows, so that no field swallows other rows unseen."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

import pandas as pd

_SEPARATORS = (",", "\t", ";", "|")
#: Rows that tell the separator.
_TRIED = 50
_LONGEST_FIELD = 2**30
#: Excel writes its separator above the header.
_EXCEL_LINE = re.compile(r"\Asep=(.)\r?\n", re.IGNORECASE)
NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}


def read_delimited(text: str, usual: str, allow_short_rows: bool = False) -> pd.DataFrame:
    """The table of a text whose first line holds the names of the columns; all values are text.

    Args:
        usual: the separator that the file's name tells; another one is taken where the rows say so.
        allow_short_rows: rows with fewer fields than the header end in blanks.

    Raises:
        ValueError: rows and header differ in their fields, or quotes leave open where a row ends; it names the line.
    """
    excel = _EXCEL_LINE.match(text)
    text = text[excel.end() :] if excel else text
    first_line = 2 if excel else 1
    separator = excel[1] if excel else find_separator(text, usual)
    try:
        rows = list(_rows(text, separator))
        if not rows:
            raise ValueError("it is empty: a header line is needed")
        if allow_short_rows:
            width = len(rows[0][1])
            rows = [(line, fields + [""] * (width - len(fields))) for line, fields in rows]
        _check_widths(rows, first_line, separator)
        _check_swallowed(rows, first_line, separator)
    except _QuoteError as error:
        rows = _line_by_line(text, separator, first_line, error)
    names = _unique([name.strip() for name in rows[0][1]])
    return pd.DataFrame([fields for _, fields in rows[1:]], columns=names, dtype=str)


class _QuoteError(ValueError):
    """Quotes and ends of rows contradict each other."""


def find_separator(text: str, usual: str) -> str:
    """The one that cuts header and first rows into equally many fields, `usual` before others; else the most frequent
    of the header."""
    header = text.split("\n", 1)[0]
    candidates = [usual, *(separator for separator in _SEPARATORS if separator != usual)]
    for candidate in candidates:
        if candidate in header and _is_even(text, candidate):
            return candidate
    return usual if usual in header else max(candidates, key=header.count)


def _is_even(text: str, separator: str) -> bool:
    widths = set()
    try:
        for number, (_, fields) in enumerate(_rows(text, separator)):
            widths.add(len(fields))
            if number == _TRIED:
                break
    except _QuoteError:
        return False
    return len(widths) == 1


def _rows(text: str, separator: str, first_line: int = 1) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, fields) of every row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    limit = csv.field_size_limit(_LONGEST_FIELD)
    begins = first_line
    try:
        for fields in reader:
            if fields:
                yield begins, fields
            begins = first_line + reader.line_num
    except csv.Error as error:
        raise _QuoteError(
            f'the row that begins in line {begins} has a quote (") that is not closed, or text behind its closing '
            f'quote: write a quote within a quoted field twice ("")'
        ) from error
    finally:
        csv.field_size_limit(limit)


def _check_widths(rows: list[tuple[int, list[str]]], first_line: int, separator: str) -> None:
    width = len(rows[0][1])
    for number, (line, fields) in enumerate(rows[1:], start=1):
        if len(fields) != width:
            kind = "more" if len(fields) > width else "fewer"
            message = (
                f"row {number} (line {line + first_line - 1}) has {kind} fields than the header: {len(fields)}, not "
                f"{width}; the separator taken is the {NAMES.get(separator, separator)}: a text that holds it or a "
                "line break must be quoted"
            )
            # A quote at a wrong place gives wrong widths too.
            raise (_QuoteError if any("\n" in field for field in fields) else ValueError)(message)


def _check_swallowed(rows: list[tuple[int, list[str]]], first_line: int, separator: str) -> None:
    """Raise `_QuoteError` where a line within a quoted field looks like a row of its own.

    A line does so if it has as many fields, and all fields but the text are written like those of other rows.
    """
    shapes: list[set[str]] | None = None
    for number, (line, fields) in enumerate(rows[1:], start=1):
        for column, field in enumerate(fields):
            if "\n" not in field and "\r" not in field:
                continue
            if shapes is None:
                shapes = _shapes(rows[1:])
            for inner in field.splitlines()[1:]:
                if _looks_like_row(inner, column, shapes, separator):
                    raise _QuoteError(
                        f"row {number} (line {line + first_line - 1}): the quoted field {rows[0][1][column]!r} holds a "
                        'line that looks like a row of its own: a quote (") is missing or too many'
                    )


def _looks_like_row(line: str, open_column: int, shapes: list[set[str]], separator: str) -> bool:
    fields = line.split(separator, len(shapes) - 1) if open_column == len(shapes) - 1 else line.split(separator)
    if len(fields) != len(shapes):
        return False
    others = [pair for column, pair in enumerate(zip(fields, shapes, strict=True)) if column != open_column]
    alike = all(_shape(field[:100]) in known for field, known in others)
    # Fields of letters alone may be words of a sentence.
    return bool(others) and alike and any(re.search(r"\d", field) for field, _ in others)


def _shapes(rows: list[tuple[int, list[str]]]) -> list[set[str]]:
    columns = zip(*(fields for _, fields in rows), strict=True)
    return [{_shape(value) for value in {value[:100] for value in column}} for column in columns]


def _shape(value: str) -> str:
    """Runs of digits as 9, of letters as a; other characters stay."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", value.strip().strip('"')))


def _line_by_line(text: str, separator: str, first_line: int, error: _QuoteError) -> list[tuple[int, list[str]]]:
    """Rows of a file of which every line is a row, where quotes are only signs in the text; else `error` is raised."""
    rows = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=first_line):
        if not line:
            continue
        try:
            fields = next(_rows(line, separator))[1]
        except _QuoteError:
            fields = line.split(separator)
        if rows and len(fields) != len(rows[0][1]):
            raise error
        rows.append((number, fields))
    return rows


def _unique(names: list[str]) -> list[str]:
    """Names of columns: blank ones by their place, repeated ones with a number behind."""
    seen: dict[str, int] = {}
    unique = []
    for place, name in enumerate(names):
        name = name or f"Unnamed: {place}"
        count = seen.get(name, 0)
        seen[name] = count + 1
        unique.append(f"{name}.{count}" if count else name)
    return unique

"""The table of one's own films: its columns, the films that its rows name, their labels."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from data_scripts.own_files.corpus import Corpus, Row, key_of
from data_scripts.own_files.films import normal_path, without_suffix
from data_scripts.own_files.options import Options
from data_scripts.own_files.report_files import ByName
from data_scripts.reading.blanks import cell
from data_scripts.reading.tables import mend_ids, read_table, require_columns, rows_of
from data_scripts.schema import DataError, Label, Skipped, is_file

#: In small letters.
_LABEL_VALUES = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "positive", "present", "ja", "oui", "si", "sí", "sim"), 1),
    **dict.fromkeys(("0", "false", "f", "no", "n", "negative", "absent", "nein", "non", "nee", "não", "nao"), 0),
    **dict.fromkeys(("-1", "uncertain"), -1),
}
#: Between the findings of a cell, where nobody says which.
_SEPARATOR = "|"
#: What else may be between them.
_SEPARATORS = (",", ";", "|", "/", "\n")
#: What a decimal number has beyond a whole one, with a point or a comma.
_DECIMALS = re.compile(r"(?<=\d)[.,]0+$")
#: As numpy writes a list of texts, which Python reads as one long text.
_SIDE_BY_SIDE = re.compile(r"""['"]\s+['"]""")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")


def open_table(path: Path, options: Options) -> pd.DataFrame:
    table = read_table(path, options.encoding, allow_short_rows=False)
    columns = options.columns()
    has_text = bool({"report", "findings", "impression"} & set(columns)) or options.reports is not None
    if not has_text and not options.text_optional:
        raise DataError(
            f"{path}: no text column is named; give --report_column, or --findings_column and --impression_column, or "
            f"a folder of texts (--reports), or --allow_empty_reports. The table has {list(table.columns)}"
        )
    key_column = options.match_column or options.image_column
    require_columns(
        table,
        [key_column, *columns.values(), *options.label_columns, *options.mask_columns, *options.identity_columns],
        path,
    )
    ids = [columns[held] for held in ("patient", "study", "id") if held in columns]
    mend_ids(table, ids + ([options.match_column] if options.match_column else []), path)
    return table


def mask_paths(table: pd.DataFrame, options: Options) -> set[str]:
    return {normal_path(path) for column in options.mask_columns for path in table[column] if cell(path)}


def match_rows(
    corpus: Corpus, name: str, table: pd.DataFrame, options: Options
) -> Iterator[tuple[dict[str, str], Row | Skipped, list[str]]]:
    """Every row as it is used, or why it is not, and the films that it names."""
    key_column, columns = options.match_column or options.image_column, options.columns()
    index = _Index(corpus, options) if options.match_column else None
    hints = _Hints(corpus, options)
    unclear = _keys_of_several(table, options) if options.match_column else {}
    for number, row in rows_of(table):
        where, key = f"{name} row {number}", cell(row[key_column])
        if not key:
            yield row, Skipped(where, f"column {key_column!r} is blank", "no image named"), []
            continue
        values = {held: cell(row[column]) for held, column in columns.items()}
        films = []
        try:
            if key in unclear:
                raise DataError(
                    f"{key!r} is in rows {unclear[key][:5]}, which differ: which one is its films'?",
                    "key in several rows",
                )
            films = index.find(key) if index else [normal_path(f"{options.image_root}/{key}")]
            if not index:
                hints.check(films[0])
            if not films:
                raise DataError(f"no film has {key!r} as accession number or file name", "row without a film")
            blank = [columns[held] for held in ("id", "patient", "study") if values.get(held) == ""]
            if blank:
                raise DataError(f"column {blank[0]!r} is blank: whose film is it?", "id is blank")
        except DataError as error:
            yield row, Skipped(where, str(error), error.kind), films
            continue
        yield row, Row(where, values, films), films


def _keys_of_several(table: pd.DataFrame, options: Options) -> dict[str, list[int]]:
    """Rows by the keys of films that rows of other texts, patients or labels name too."""
    held = [*options.columns().values(), *options.label_columns, *options.mask_columns]
    contents: dict[str, set[tuple[str, ...]]] = {}
    numbers: dict[str, list[int]] = {}
    for number, row in rows_of(table):
        key = cell(row[options.match_column])
        contents.setdefault(key, set()).add(tuple(cell(row[column]) for column in held))
        numbers.setdefault(key, []).append(number)
    return {key: numbers[key] for key, found in contents.items() if len(found) > 1 and key}


class _Index:
    """Films by accession number, which several films of a study share, and by file name."""

    def __init__(self, corpus: Corpus, options: Options):
        self.accessions = corpus.accessions
        self.by_name = ByName([(key_of(path, options), path) for path in corpus.films])

    def find(self, key: str) -> list[str]:
        if key in self.accessions.paths:
            self.accessions.check(key)
            for path in self.by_name.by_stem.get(key, []):
                self.accessions.check_name(key, path)
            return self.accessions.paths[key]
        name = without_suffix(normal_path(key))
        found = self.by_name.find(name)
        if found is None and _ABSOLUTE.match(name):
            # A path of another machine: the longest part of it that is a path here, with a folder where there are any.
            parts = Path(name).parts[1:]
            tails = ("/".join(parts[start:]) for start in range(len(parts) - (not self.by_name.is_flat)))
            found = next((self.by_name.by_path[tail] for tail in tails if tail in self.by_name.by_path), None)
        return [] if found is None else [found]


class _Hints:
    """What to do where a table names no file as it is called."""

    def __init__(self, corpus: Corpus, options: Options):
        self.raw, self.films, self.column = corpus.raw, set(corpus.films), options.image_column
        self.by_name = {Path(key_of(film, options)).name.lower(): film for film in corpus.films}

    def check(self, path: str) -> None:
        """Raise `DataError` if there is no such file, but one of its name but for ending, letters or folder."""
        found = self.by_name.get(Path(without_suffix(path)).name.lower())
        if path in self.films or found is None or is_file(self.raw / path):
            return
        if Path(without_suffix(path)).name != Path(without_suffix(found)).name:
            advice = "small and capital letters differ"
        else:
            advice = (
                f"--match_column {self.column} (instead of --image_column) finds films by their name without ending, "
                "and --image_root says where paths begin"
            )
        raise DataError(f"{path} is missing, but there is {found}: {advice}", "image file missing")


def vocabulary_of(table, options: Options) -> list[str]:
    """All findings that `labels_column` ever lists, sorted.

    Raises:
        DataError: two differ in capitals alone, one seems to be several others with another separator between them (a
            note where the separator was given), a cell has brackets and is no list, or all are values such as 1 and 0.
    """
    if options.labels_column is None:
        return []
    texts = [cell(text) for text in table[options.labels_column].unique()]
    listed = [_listed(text, options) for text in texts if text not in options.unlabelled_values]
    names = sorted({name for findings in listed for name in findings})
    if names and all(_DECIMALS.sub("", name.lower()) in _LABEL_VALUES for name in names):
        raise DataError(
            f"column {options.labels_column!r} lists no findings but {names}: such a column, named after its "
            "finding, is one of --label_columns"
        )
    alone = {findings[0] for findings in listed if len(findings) == 1}
    _check_separator(names, alone, options)
    folded = {name.lower(): name for name in names}
    for name in names:
        if folded[name.lower()] != name:
            raise DataError(
                f"column {options.labels_column!r} lists {name!r} and {folded[name.lower()]!r}: write "
                "one of them in all rows"
            )
    return names


def _check_separator(names: list[str], alone: set[str], options: Options) -> None:
    """Raise `DataError` for a name that another separator parts into findings of which one is `alone` in some cell."""
    for separator in _SEPARATORS:
        for name in names:
            parts = [part.strip() for part in name.split(separator)]
            if len(parts) == 1 or alone.isdisjoint(parts):
                continue
            found = f"column {options.labels_column!r}: {name!r} seems to be several findings"
            if options.label_separator is None:
                raise DataError(
                    f"{found}: give --label_separator {separator!r}, or {_SEPARATOR!r} if it is one finding"
                )
            options.notes.append(f"{found}, but --label_separator is {options.label_separator!r}: it counts as one")
            return


def _listed(text: str, options: Options) -> list[str]:
    """The findings that a cell lists: with a separator between them, or as Python or JSON writes a list.

    Raises:
        DataError: the cell has the brackets of a list and is none.
    """
    brackets, separator = text[:1] + text[-1:], options.label_separator or _SEPARATOR
    if brackets in ("[]", "{}", "()") and not _SIDE_BY_SIDE.search(text):
        for read in (json.loads, ast.literal_eval):
            with contextlib.suppress(ValueError, SyntaxError):
                if isinstance(parts := read(text), (list, tuple, set)):
                    return _without_blanks(map(str, parts))
    # A name may be in round brackets.
    if brackets in ("[]", "{}"):
        raise DataError(
            f"column {options.labels_column!r}: {text!r} has brackets, but is no list as Python or JSON writes it: "
            f"write the findings with {separator!r} between them"
        )
    return _without_blanks(text.split(separator))


def _without_blanks(parts: Iterable[str]) -> list[str]:
    return [name for part in parts if (name := cell(part))]


def labels_of(row: dict[str, str], vocabulary: list[str], options: Options) -> list[Label]:
    labels = []
    for name in options.label_columns:
        value = cell(row[name])
        known = _LABEL_VALUES.get(_DECIMALS.sub("", value.lower()))
        if value and known is None:
            raise DataError(
                f"label {name!r} is {value!r}: allowed are 1 (present, positive, yes, true), 0 (absent, negative, no, "
                "false), -1 (uncertain), blank",
                "unknown label value",
            )
        if known is not None:
            labels.append(Label(name, known))
    listed = cell(row[options.labels_column]) if options.labels_column else ""
    if listed and listed not in options.unlabelled_values:
        present = _listed(listed, options)
        labels += [Label(name, int(name in present)) for name in vocabulary]
    return labels

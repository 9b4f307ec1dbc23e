"""One's own films: DICOM, PNG or JPEG in a folder, with a table, with report text files, or with both.

- A table (CSV, TSV, JSON lines or Parquet) with a column for each thing: `--table films.csv --image_column file`. Or
  one that knows no files: `--match_column accession` finds films by accession number (DICOM) or file name.
- Text files: `--reports DIR` takes `DIR/**/NAME.txt`, NAME being the film's accession number or file name.
- Neither `--table` nor a `metadata.csv`: every image below `--image_root` is a record.
- `--mapping own.yaml` holds any of these arguments (`image_column: file`), those on the command line come first.

Nothing leaves the machine. Of a table only the named columns are copied. Of a DICOM header the view is (and age and sex
on request); patient, study and accession number only link and match films: they are written as numbers, or as salted
hashes (`--hash_ids SALT`), which then also replace the ids of the table and the file names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from data_scripts.own_files.corpus import Corpus, Row
from data_scripts.own_files.films import find_films, normal_path
from data_scripts.own_files.options import Options
from data_scripts.own_files.records import read_one
from data_scripts.own_files.table import labels_of, mask_paths, match_rows, open_table, vocabulary_of
from data_scripts.reading.blanks import cell
from data_scripts.reading.report_words import are_foreign, looks_foreign
from data_scripts.schema import DataError, Mask, Record, Skipped, Source

SOURCE = Source(
    name="folder",
    title="Own files",
    version="-",
    url="-",
    licence="as the owner says",
    access="own",
    traps=(
        "Without a patient column, pattern or DICOM header every study, or image, counts as a patient of its own, so "
        "patients may cross splits.",
        "Record ids are file names (numbers for DICOM); `skipped.jsonl` and `.prepare/` name files: keep them in the "
        "house. With --hash_ids none of them does.",
        "Text burned into the pixels of a film is not removed.",
        "With --hash_ids, report text has ___ for names, ids, birth dates and institutions that header and table know, "
        "and for dates, names after a title and numbers after words such as MRN; names that nothing tells stay.",
    ),
)


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    """Records of the table's rows, or of all images; then what was left over: films, reports.

    Notes where the reports do not seem to be in the language that was said.
    """
    options.notes.clear()
    reports = foreign = 0
    for record in _read_all(raw, options):
        if isinstance(record, Record) and record.language == "en" and (text := record.report):
            reports += 1
            foreign += looks_foreign(text)
        yield record
    if are_foreign(foreign, reports):
        options.notes.append(
            f"{foreign:,} of {reports:,} reports do not look English, but are taken for it: give --language, such as de"
        )


def _read_all(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    name = options.table or ("metadata.csv" if (raw / "metadata.csv").is_file() else None)
    if name is None and options.reports is None and not options.text_optional:
        raise DataError(f"{raw}: nothing tells the reports; name a table (--table) or a folder of texts (--reports)")
    if name is None and (columns := options.of_table()):
        raise DataError(
            f"{raw}: {' and '.join(columns)} name what is in a table, and there is none: name it with --table (only a "
            "metadata.csv is found by itself)"
        )
    table = None if name is None else open_table(raw / name, options)
    found = [] if name and not (raw / options.image_root).is_dir() else list(find_films(raw, options.image_root))
    masks = set() if table is None else mask_paths(table, options)
    films = [path for path in found if isinstance(path, str) and path not in masks]
    corpus = Corpus(raw, films, options)
    if table is None:
        corpus.settle(Row(film, {}, [film]) for film in films)
        for film in films:
            yield read_one(corpus, film, {}, [], {}, film, options, {})
    else:
        yield from _read_table(corpus, name, table, options)
    # Masks may be of kinds that films are not: GIF.
    yield from (skip for skip in found if isinstance(skip, Skipped) and skip.key not in masks)
    if corpus.reports is not None:
        yield from corpus.reports.left_over()


def _read_table(corpus: Corpus, name: str, table: pd.DataFrame, options: Options) -> Iterator[Record | Skipped]:
    vocabulary, inside = vocabulary_of(table, options), options.values_inside()
    rows, used = [], set()
    for row, found, films in match_rows(corpus, name, table, options):
        used |= set(films)
        rows.append((row, found))
    corpus.settle(found for _, found in rows if isinstance(found, Row))
    for row, found in rows:
        if isinstance(found, Skipped):
            yield found
            continue
        try:
            labels = labels_of(row, vocabulary, options)
        except DataError as error:
            yield Skipped(found.where, str(error), error.kind)
            continue
        named = [column for column in options.mask_columns if cell(row[column])]
        masks = {column: Mask("file", normal_path(row[column]), values=inside.get(column)) for column in named}
        for film in found.films:
            yield read_one(corpus, film, found.values, labels, masks, found.where, options, row)
    for film in corpus.films:
        if film not in used:
            yield Skipped(film, f"{name} has no row for it (see also --image_root)", "film without a row")

"""CANDID-PTX: 19,237 frontal films of Dunedin Hospital (New Zealand) with reports and masks of pneumothorax.

Layout: `Pneumothorax_reports.csv` (one row a mask, so that films repeat), `chest_tube.csv`, `acute_rib_fracture.csv`
(also seen as `Rib_fracture_mask_rle.csv`), and the films in `dataset/`: DICOM files called by their SOPInstanceUID,
with or without an ending.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_scripts.reading.loader_options import PatientSplit
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source

SOURCE = Source(
    name="candid_ptx",
    title="CANDID-PTX",
    version="figshare 14173982",
    url="https://doi.org/10.17608/k6.auckland.14173982",
    licence="data use agreement after an ethics course; no redistribution",
    access="registration",
    # There is no official split.
    expected={"train": 19_237},
    traps=(
        "The table has a row for every mask: 19,640 rows for 19,237 films; masks of a film are united.",
        "Run lengths are gaps and lengths, column by column: each gap counts from the end of the last run. The "
        "same is assumed for chest tubes and rib fractures.",
        "Films that the tables of chest tubes and rib fractures do not list count as having none.",
        "The whole report is the text; arXiv 2602.22843 used its impression alone, from a file that is not part of "
        "the download.",
        "The patient is the number in the column filename (P123_...).",
    ),
)

TABLE = "Pneumothorax_reports.csv"
COLUMNS = ("filename", "studyinstanceuid", "sopinstanceuid", "encodedpixels", "report")
#: Further structures, and the tables that list their masks: the first that is there counts.
OTHER_TABLES = {
    "Chest Tube": ("chest_tube.csv",),
    "Acute Rib Fracture": ("acute_rib_fracture.csv", "Rib_fracture_mask_rle.csv"),
}
NO_MASK = "-1"
SIZE = (1024, 1024)
_PATIENT = re.compile(r"P?(\d+)_")


@dataclass
class Options(PatientSplit):
    """Arguments of this loader."""


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    table = _read(raw / TABLE, COLUMNS)
    others = {
        name: _masks_by_film(path)
        for name, tables in OTHER_TABLES.items()
        if (path := next((raw / candidate for candidate in tables if (raw / candidate).is_file()), None))
    }
    rows: dict[str, list[dict]] = {}
    wheres: dict[str, str] = {}
    for number, row in rows_of(table):
        rows.setdefault(row["sopinstanceuid"], []).append(row)
        wheres.setdefault(row["sopinstanceuid"], f"{TABLE} row {number}")
    entries = ((wheres[film], film, of_film) for film, of_film in rows.items())
    yield from match_films(entries, _films(raw), lambda of_film, path: _record(of_film, path, others, options), TABLE)
    for name, masks in others.items():
        for film in sorted(set(masks) - set(rows)):
            yield Skipped(f"{name} of {film}", f"{film} has no row in {TABLE}", "mask without a row")


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """The table with its columns in small letters: releases differ in them."""
    table = read_table(path)
    table.columns = table.columns.str.strip().str.lower()
    require_columns(table, columns, path)
    return table


def _masks_by_film(path: Path) -> dict[str, list[str]]:
    """Run lengths by SOPInstanceUID; an empty list where the film has a row without a mask."""
    masks: dict[str, list[str]] = {}
    for _, row in rows_of(_read(path, ("anon_sopuid", "mask_rle"))):
        masks.setdefault(row["anon_sopuid"].strip(), []).extend(_run_lengths([row["mask_rle"]]))
    return masks


def _run_lengths(cells: list[str]) -> list[str]:
    """The masks among the cells, without repetitions."""
    return list(dict.fromkeys(cell.strip() for cell in cells if cell.strip() not in ("", NO_MASK)))


def _films(raw: Path) -> dict[str, str]:
    """Paths by SOPInstanceUID. Not by `Path.stem`: the dots of a UID part its numbers, not an ending."""
    return films_below(raw, "dataset", None, key=lambda path: re.sub(r"\.(dcm|dicom)$", "", path.name))


def _only(rows: list[dict[str, str]], column: str) -> str:
    """The one value that all rows of a film have."""
    values = {row[column].strip() for row in rows}
    if len(values) > 1:
        raise DataError(f"its rows differ in column {column!r}", "rows of a film differ")
    return values.pop()


def _findings(
    rows: list[dict[str, str]], others: Mapping[str, Mapping[str, list[str]]]
) -> tuple[list[Label], dict[str, Mask]]:
    """Labels (a structure is present if it has a mask) and masks of a film."""
    film = rows[0]["sopinstanceuid"]
    runs = {"Pneumothorax": _run_lengths([row["encodedpixels"] for row in rows])}
    judged = any(row["encodedpixels"].strip() for row in rows)
    labels = [Label("Pneumothorax", int(bool(runs["Pneumothorax"])))] if judged else []
    for name, masks in others.items():
        runs[name] = masks.get(film, [])
        labels.append(Label(name, int(bool(runs[name]))))
    return labels, {name: Mask("rle_relative", found, SIZE) for name, found in runs.items() if found}


def _record(rows: list[dict[str, str]], path: str, others: Mapping, options: Options) -> Record:
    labels, masks = _findings(rows, others)
    patient = _PATIENT.match(_only(rows, "filename"))
    if not patient:
        raise DataError(f"filename is {rows[0]['filename']!r}, P<patient>_... is expected", "no patient in the name")
    return Record(
        record_id=f"{SOURCE.name}/{rows[0]['sopinstanceuid']}",
        source=SOURCE.name,
        patient_id=patient[1],
        study_id=_only(rows, "studyinstanceuid"),
        split=options.split(patient[1]),
        image_path=path,
        findings=_only(rows, "report"),
        labels=labels,
        masks=masks,
    )

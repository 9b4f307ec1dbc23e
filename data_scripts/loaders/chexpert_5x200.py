"""CheXpert 5x200: 1,000 frontal training films of CheXpert, 200 for each of five findings, each with that one alone.

Layout: `chexpert_5x200.csv` (github.com/marshuang80/gloria) beside or in the folder of CheXpert, whose films are at
`CheXpert-v1.0/train/...` (or `CheXpert-v1.0-small/train/...`, or `train/...` of the raw folder itself). The reports,
for retrieval, are in the original table's `Report Impression` or, by `--reports`, in CheXpert Plus.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_scripts.reading.labels import parse_label
from data_scripts.reading.matching import match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import DataError, Label, Record, Skipped, Source, within

SOURCE = Source(
    name="chexpert_5x200",
    title="CheXpert 5x200",
    version="GLoRIA, 2021",
    url="https://github.com/marshuang80/gloria",
    licence="Stanford University Dataset Research Use Agreement: research only, not to be passed on",
    access="registration",
    expected={"test": 1_000},
    traps=(
        "Exposure: the films are of CheXpert's training list. A corpus of CheXpert or CheXpert Plus must leave out the "
        "966 patients, not the 1,000 films alone: other studies of these patients say much the same.",
        "The films were sampled without a seed: only the published table is the benchmark.",
        "The labels are machine-read from reports (CheXpert labeller), not of radiologists.",
        "998 of the 1,000 films have a report in CheXpert Plus.",
    ),
    shares_films_with=("chexpert_plus",),
)
TEXT_OPTIONAL = True

#: In the order of the published classes.
CLASSES = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
_FILM_ROOTS = ("", "CheXpert-v1.0", "CheXpert-v1.0-small")


@dataclass
class Options:
    """Arguments of this loader."""

    table: str = field(default="chexpert_5x200.csv", metadata={"help": "The benchmark's table, below the raw folder."})
    reports: str | None = field(
        default=None,
        metadata={
            "help": "Table of CheXpert Plus (df_chexpert_plus_240401.csv) below the raw folder, for the reports."
        },
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    path = raw / options.table
    table = read_table(path)
    require_columns(table, ["Path", *CLASSES], path)
    rows = [(f"{path.name} row {number}", _film_key(row["Path"]), row) for number, row in rows_of(table)]
    films = {key: found for _, key, _ in rows if (found := _find_film(raw, key))}
    reports = _read_reports(raw / options.reports) if options.reports else {}
    yield from match_films(rows, films, lambda row, film: _record(row, film, reports), path.name)


def _film_key(path: str) -> str:
    """train/patient00001/study1/view1_frontal without its corpus folder and suffix.

    One copy of the table holds a list literal of a single path.
    """
    if path.startswith("["):
        try:
            path = ast.literal_eval(path)[0]
        except (ValueError, SyntaxError, IndexError) as error:
            raise DataError(f"column 'Path' holds {path!r}: neither a path nor a list of one") from error
    return str(PurePosixPath(*PurePosixPath(path).parts[-4:]).with_suffix(""))


def _find_film(raw: Path, key: str) -> str | None:
    candidates = (f"{root}/{key}{suffix}".lstrip("/") for root in _FILM_ROOTS for suffix in (".jpg", ".png"))
    return next((candidate for candidate in candidates if within(raw, candidate).is_file()), None)


def _read_reports(path: Path) -> dict[str, tuple[str, str]]:
    table = read_table(path)
    columns = ("path_to_image", "section_findings", "section_impression")
    require_columns(table, columns, path)
    rows = table[list(columns)].itertuples(index=False, name=None)
    return {_film_key(film): (findings, impression) for film, findings, impression in rows}


def _labels(row: dict[str, str]) -> list[Label]:
    """The five classes, blank and 0 both absent: a film is of one class alone by the benchmark's construction."""
    labels = [Label(name, parse_label(row[name]) or 0) for name in CLASSES]
    values = [label.value for label in labels]
    if sorted(values) != [0, 0, 0, 0, 1]:
        raise DataError(f"the five classes are {values}: exactly one must be 1, the others 0 or blank", "not one class")
    return labels


def _record(row: dict[str, str], path: str, reports: dict[str, tuple[str, str]]) -> Record:
    key = _film_key(row["Path"])
    _, patient, study, film = key.split("/")
    findings, impression = reports.get(key, ("", row.get("Report Impression", "")))
    return Record(
        record_id=f"{SOURCE.name}/{key.removeprefix('train/').replace('/', '_')}",
        source=SOURCE.name,
        patient_id=patient,
        study_id=f"{patient}_{study}",
        split="test",
        image_path=path,
        findings=findings,
        impression=impression,
        labels=_labels(row),
        view=normalise_view(row.get("AP/PA") or film.split("_")[-1]),
        sex=normalise_sex(row.get("Sex")),
        age_years=float(row["Age"]) if row.get("Age", "").isdigit() else None,
    )

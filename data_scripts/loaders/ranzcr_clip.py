"""RANZCR CLiP: 30,083 films with the position of tubes and lines, for a part of them drawn as lines of points.

Layout (Kaggle): `train.csv`, `train_annotations.csv`, `train/<StudyInstanceUID>.jpg`. The films of `test/` have no
public labels and are not read. A line of points becomes a tube of `--tube_width` pixels.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.reading.labels import row_labels
from data_scripts.reading.matching import EvaluationSplit, films_below, frame_of, match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.schema import DataError, Mask, Record, Skipped, Source

SOURCE = Source(
    name="ranzcr_clip",
    title="RANZCR CLiP: catheter and line position",
    version="2021",
    url="https://www.kaggle.com/c/ranzcr-clip-catheter-line-classification",
    licence="rules of the competition, accepted on Kaggle before the download",
    access="registration",
    traps=(
        "Exposure: the films are taken from NIH ChestX-ray14; a model pretrained on NIH has seen most of them.",
        "The number of films of the complete set is not checked: it is known from the competition's pages alone.",
        "Labels are not exclusive: a film may show several lines, each with a position of its own.",
        "Lines of points exist for a part of the films only: a film without one is not a film without a tube.",
        "A study has one film here; patients have several, so splits go by PatientID.",
    ),
    shares_films_with=("nih_chestxray14",),
)
TEXT_OPTIONAL = True

LABELS = (
    "ETT - Abnormal",
    "ETT - Borderline",
    "ETT - Normal",
    "NGT - Abnormal",
    "NGT - Borderline",
    "NGT - Incompletely Imaged",
    "NGT - Normal",
    "CVC - Abnormal",
    "CVC - Borderline",
    "CVC - Normal",
    "Swan Ganz Catheter Present",
)
TABLE, LINES_TABLE = "train.csv", "train_annotations.csv"


@dataclass
class Options(EvaluationSplit):
    """Arguments of this loader."""

    validation_share: float = field(default=0.1, metadata={"help": "Share of the patients for validation."})
    test_share: float = field(default=0.1, metadata={"help": "Share of the patients for testing; 1: all."})
    tube_width: int = field(default=15, metadata={"help": "Thickness of a drawn tube in pixels of the film."})

    def __post_init__(self):
        super().__post_init__()
        if self.tube_width < 1:
            raise ValueError(f"tube_width is {self.tube_width}, it must be at least 1")


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    films = films_below(raw, "train", (".jpg",), key=lambda path: path.stem)
    table = read_table(raw / TABLE)
    require_columns(table, ("StudyInstanceUID", *LABELS, "PatientID"), raw / TABLE)
    lines = _read_lines(raw / LINES_TABLE)
    rows = [(f"{TABLE} row {number}", row["StudyInstanceUID"], row) for number, row in rows_of(table)]
    yield from match_films(rows, films, lambda row, path: _record(row, path, raw, lines, options), TABLE)
    for key in sorted(set(lines) - {key for _, key, _ in rows}):
        yield Skipped(key, f"{key} has lines in {LINES_TABLE} but no row in {TABLE}", "lines without a film")


def _read_lines(path: Path) -> dict[str, list[tuple[str, str]]]:
    """(label, points as text) of every line by film."""
    table = read_table(path)
    require_columns(table, ("StudyInstanceUID", "label", "data"), path)
    lines = defaultdict(list)
    for _, row in rows_of(table):
        lines[row["StudyInstanceUID"]].append((row["label"], row["data"]))
    return lines


def _points(text: str) -> list[float]:
    """[x1, y1, x2, y2, ...] of "[[x1, y1], [x2, y2], ...]"."""
    try:
        return [float(number) for x, y in ast.literal_eval(text) for number in (x, y)]
    except (ValueError, SyntaxError, TypeError) as error:
        raise DataError(f"{LINES_TABLE}: {text[:60]!r} is not a list of points [x, y]", "line malformed") from error


def _record(row: dict[str, str], path: str, raw: Path, lines: dict, options: Options) -> Record:
    key = row["StudyInstanceUID"]
    by_label = defaultdict(list)
    for label, text in lines.get(key, []):
        if label not in LABELS:
            raise DataError(f"{LINES_TABLE}: unknown label {label!r}, expected one of {LABELS}", "unknown label")
        by_label[label].append(_points(text))
    # Points are in pixels of the film, whose size no table gives.
    frame = frame_of(raw, path) if by_label else None
    return Record(
        record_id=f"{SOURCE.name}/{key}",
        source=SOURCE.name,
        patient_id=row["PatientID"],
        study_id=key,
        split=options.split(row["PatientID"]),
        image_path=path,
        labels=row_labels(row, LABELS, "binary"),
        masks={
            label: Mask("polylines", found, size=frame, width=options.tube_width) for label, found in by_label.items()
        },
    )

"""Object-CXR: frontal films with foreign objects marked as boxes, ellipses or polygons; half of the films have none.

Layout: `train.csv`, `train/00001.jpg` ... and `dev.csv`, `dev/08001.jpg` ... (unpacked from the archives). A row's
annotation lists objects, separated by ";", each "type x y x y ...": 0 rectangle and 1 ellipse with two corners of their
box, 2 polygon. The challenge's test films have no public annotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_scripts.reading.matching import films_below, frame_of, match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source

SOURCE = Source(
    name="object_cxr",
    title="Object-CXR: foreign objects on chest X-rays",
    version="MIDL 2020 challenge",
    url="https://academictorrents.com/details/fdc91f11d7010f7259a05403fc9d00079a09f5d5",
    licence="see the terms of your copy; the challenge's own page, which stated them, is gone",
    access="open",
    expected={"train": 8_000, "validation": 1_000},
    traps=(
        "Exposure: of no pretraining corpus here.",
        "The published films are train and dev; figures on the test films were made on the challenge's server.",
        "Rectangles and ellipses enclose an object, only polygons follow it.",
        "Some corners lie outside of the film; shapes are cut at its border.",
        "There are no patient ids.",
    ),
)
TEXT_OPTIONAL = True

PARTS = {"train": "train", "dev": "validation"}
RECTANGLE, ELLIPSE, POLYGON = "0", "1", "2"
NAME = "Foreign Object"


@dataclass
class Options:
    """This loader has no arguments: films, annotations and splits are the official ones."""


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    for part, split in PARTS.items():
        films = films_below(raw, part, (".jpg",))
        path = raw / f"{part}.csv"
        table = read_table(path)
        require_columns(table, ("image_name", "annotation"), path)
        rows = ((f"{path.name} row {number}", row["image_name"], row) for number, row in rows_of(table))
        yield from match_films(rows, films, lambda row, film, split=split: _record(row, film, raw, split), path.name)


def _record(row: dict[str, str], path: str, raw: Path, split: str) -> Record:
    key = row["image_name"].removesuffix(".jpg")
    objects = [entry.split() for entry in row["annotation"].split(";") if entry.strip()]
    # Shapes are in pixels of the film, whose size the table does not give.
    masks = _masks(objects, frame_of(raw, path)) if objects else []
    return Record(
        record_id=f"{SOURCE.name}/{key}",
        source=SOURCE.name,
        patient_id=key,
        study_id=key,
        split=split,
        image_path=path,
        labels=[Label(NAME, int(bool(objects)))],
        masks={NAME: masks} if masks else {},
    )


def _masks(objects: list[list[str]], frame: tuple[int, int]) -> list[Mask]:
    """One mask for each kind of shape; their union is the film's.

    Raises:
        DataError: a type is unknown or its numbers are not coordinates.
    """
    shapes: dict[str, list[list[float]]] = {"boxes": [], "ellipses": [], "polygons": []}
    for kind, *texts in objects:
        try:
            numbers = [float(text) for text in texts]
        except ValueError as error:
            raise DataError(
                f"the annotation {' '.join(texts)!r} holds no coordinates", "annotation malformed"
            ) from error
        if kind in (RECTANGLE, ELLIPSE) and len(numbers) == 4:
            shapes["boxes" if kind == RECTANGLE else "ellipses"].append(_box(*numbers))
        elif kind == POLYGON and len(numbers) >= 6 and len(numbers) % 2 == 0:
            shapes["polygons"].append(numbers)
        else:
            raise DataError(
                f"an object of type {kind!r} with {len(numbers)} numbers: expected 0 or 1 with 4, or 2 with at least 6",
                "annotation malformed",
            )
    return [Mask(kind, found, size=frame) for kind, found in shapes.items() if found]


def _box(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """[x, y, width, height] of two opposite corners in any order."""
    return [min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)]

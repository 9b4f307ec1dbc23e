"""The one record schema that every corpus is read into, and the contract of a loader.

A loader is a module of `data_scripts.loaders` with

- `SOURCE`: a `Source`, what a user must know before using the corpus;
- `Options`: a dataclass of the loader's own arguments (read by `HfArgumentParser`);
- `read_records(raw, options)`: an iterator of `Record`, without opening images, and of `Skipped` for what the raw
  data lists but cannot give; what stops the reading altogether (a missing table) raises `DataError`;
- optionally `read_image(raw, record, options)`: the pixels of a record whose image is not a plain file, and a dict of
  masks of the image's size (0, 255, 127 = not judged) beside those of `record.masks`;
- optionally a method `conceal(skipped)` of `Options`: what may be kept of a `Skipped` where `hash_ids` is set;
- optionally attributes of `Options` that are no arguments: `text_optional`, set where `--allow_empty_reports` is given,
  `films_alone`, whether they name films and neither text nor labels, and `notes`, sentences on the whole corpus that
  the user is told;
- optionally `EMPTY_REPORTS_KNOWN = True`: the official download has records without text, which stop nothing;
- optionally `TEXT_OPTIONAL = True`: an evaluation set, whose records need labels or masks but no report.

`data_scripts.prepare` turns the records into Parquet rows of `data_scripts.features.FEATURES`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SPLITS = ("train", "validation", "test")
VIEWS = ("PA", "AP", "LATERAL", "OBLIQUE", "DECUBITUS", "OTHER", "UNKNOWN")
SEXES = ("F", "M", "O")
#: Where the text of a record comes from. Text made from labels must not be taken for a radiologist's.
REPORT_ORIGINS = ("radiologist", "note", "translation", "labels", "simulated")
#: In a summary's counts of image modes: reports without a film.
TEXT_ALONE = "no film"
LABEL_VALUES = (1, 0, -1)
MAX_AGE = 120


class DataError(ValueError):
    """Data that cannot be used; the message names the file, row or argument and what to do.

    `kind` says the same without names, so that equal problems can be counted together.
    """

    def __init__(self, message: str, kind: str = "record outside of the schema"):
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Source:
    """What a corpus is, under which terms it may be used, and what surprises its readers.

    `access` is one of "open", "registration", "credentialed", "synthetic", "own"; `expected` gives the number
    of images per split of the complete corpus; where their sum is not what was read, `prepare` says so.
    `shares_films_with` names the loaders of larger corpora that its films, or other films of its patients, are part of.
    """

    name: str
    title: str
    version: str
    url: str
    licence: str
    access: str
    expected: dict[str, int] = field(default_factory=dict)
    traps: tuple[str, ...] = ()
    shares_films_with: tuple[str, ...] = ()


@dataclass
class Label:
    """One judged finding: value 1 present, 0 absent, -1 uncertain; reader counts where known."""

    name: str
    value: int
    readers: int | None = None
    positive_readers: int | None = None


#: Values of a decoded mask beside 0, outside.
INSIDE = 255
NOT_JUDGED = 127
#: What `Mask.data` holds; `data_scripts.films.masks` says how each kind is read.
MASK_KINDS = (
    "file",
    "file_ignore127",
    "rle_relative",
    "rle_absolute",
    "rle_coco",
    "polygons",
    "boxes",
    "ellipses",
    "polylines",
)


@dataclass(frozen=True)
class Mask:
    """A mask as its corpus stores it, decoded by `data_scripts.films.masks.decode_mask`.

    Args:
        kind: one of `MASK_KINDS`.
        data: a path (or list of paths) below the raw folder, a list of run lengths, or a list of shapes.
        size: (height, width) of the frame of runs and shapes; not for files and `rle_coco`, which carry it.
        width: thickness of `polylines` in pixels of the frame.
        values: of a `file` that is a label map, the values that are inside.
    """

    kind: str
    data: Any
    size: tuple[int, int] | None = None
    width: int | None = None
    values: tuple[int, ...] | None = None


@dataclass
class Record:
    """One image with its text and labels, before its pixels are read.

    `image_path` is relative to the raw folder; None where the loader's `read_image` makes the pixels;
    without that method the record is a text alone, whose image is None.
    `masks` maps structure names to their mask, or to several whose union counts.
    """

    record_id: str
    source: str
    patient_id: str
    study_id: str
    split: str
    image_path: str | None = None
    findings: str = ""
    impression: str = ""
    report_origin: str = "radiologist"
    language: str = "en"
    labels: list[Label] = field(default_factory=list)
    masks: dict[str, Mask | list[Mask]] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    view: str = "UNKNOWN"
    sex: str | None = None
    age_years: float | None = None
    licence: str | None = None

    @property
    def files(self) -> list[str]:
        """Paths, relative to the raw folder, of the image and of masks that are files."""
        given = [mask for entry in self.masks.values() for mask in (entry if isinstance(entry, list) else [entry])]
        paths = [mask.data for mask in given if mask.kind in ("file", "file_ignore127")]
        paths = [path for entry in paths for path in (entry if isinstance(entry, list) else [entry])]
        return [*([self.image_path] if self.image_path else []), *paths]

    @property
    def report(self) -> str:
        """The training text: findings, a space, impression; line breaks become spaces."""
        return " ".join(f"{self.findings} {self.impression}".split())


@dataclass(frozen=True)
class Skipped:
    """Something in the raw data that cannot become a record: the row or file, why, and the kind of reason.

    `on_request`: the user's options leave it out, or the official download is known to have it; it stops nothing.
    """

    key: str
    reason: str
    kind: str
    on_request: bool = False


def check_record(record: Record) -> None:
    """Raise `DataError` naming the record and field if a value is outside the schema's vocabulary."""
    vocabularies = {"split": SPLITS, "view": VIEWS, "report_origin": REPORT_ORIGINS}
    for name, allowed in vocabularies.items():
        if getattr(record, name) not in allowed:
            raise DataError(f"record {record.record_id!r}: {name} is {getattr(record, name)!r}, allowed: {allowed}")
    if record.sex is not None and record.sex not in SEXES:
        raise DataError(f"record {record.record_id!r}: sex is {record.sex!r}, allowed: {SEXES} or None")
    for name in ("record_id", "source", "patient_id", "study_id"):
        if not getattr(record, name):
            raise DataError(f"record {record.record_id!r}: {name} is empty")
    if record.age_years is not None and not 0 <= record.age_years <= MAX_AGE:
        raise DataError(f"record {record.record_id!r}: age is {record.age_years}, expected are 0 to {MAX_AGE} years")
    seen = set()
    for label in record.labels:
        if label.value not in LABEL_VALUES:
            raise DataError(
                f"record {record.record_id!r}: label {label.name!r} is {label.value!r}, allowed: {LABEL_VALUES} "
                "(1 present, 0 absent, -1 uncertain)"
            )
        if label.name in seen:
            raise DataError(f"record {record.record_id!r}: label {label.name!r} is given twice")
        seen.add(label.name)
    for name, masks in record.masks.items():
        for mask in masks if isinstance(masks, list) else [masks]:
            _check_mask(f"record {record.record_id!r}: mask {name!r}", mask)


def _check_mask(where: str, mask: Mask) -> None:
    if mask.kind not in MASK_KINDS:
        raise DataError(f"{where} is of kind {mask.kind!r}, allowed: {MASK_KINDS}")
    if mask.kind not in ("file", "file_ignore127") and not isinstance(mask.data, list):
        raise DataError(f"{where}: kind {mask.kind!r} takes a list, got {type(mask.data).__name__}")
    if mask.kind not in ("file", "file_ignore127", "rle_coco") and mask.size is None:
        raise DataError(f"{where}: kind {mask.kind!r} needs the size (height, width) of its frame")
    if mask.kind == "polylines" and (mask.width is None or mask.width < 1):
        raise DataError(f"{where}: polylines need a width of at least 1 pixel, got {mask.width}")


def record_from_json(line: str) -> Record:
    """The record that `json.dumps(record, default=vars)` wrote."""
    values = json.loads(line)
    values["labels"] = [Label(**label) for label in values["labels"]]
    values["masks"] = {
        name: [_mask_from_json(part) for part in given] if isinstance(given, list) else _mask_from_json(given)
        for name, given in values["masks"].items()
    }
    return Record(**values)


def _mask_from_json(values: dict) -> Mask:
    pairs = {name: values.get(name) and tuple(values[name]) for name in ("size", "values")}
    return Mask(**{**values, **pairs})


def is_file(path: Path) -> bool:
    """`Path.is_file`, False where the name cannot be one (too long, or below a folder that may not be entered)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def within(raw: Path, relative: str) -> Path:
    """`raw / relative`, refused if it leaves `raw` (a table must not make us read other folders).

    Links below `raw` are followed: who holds the raw folder has put them there.
    """
    path = Path(os.path.normpath(raw.absolute() / relative))
    if not path.is_relative_to(os.path.normpath(raw.absolute())):
        raise DataError(
            f"{relative!r} leaves the raw folder {raw}: image paths must stay below it",
            "path outside of the raw folder",
        )
    return path

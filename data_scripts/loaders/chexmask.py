"""CheXmask: outlines of both lungs and the heart, predicted by a model, for the films of five corpora.

Layout: the raw folder is that of the corpus (`--corpus`), read by its own loader; `--masks` names the table of
PhysioNet's chexmask-cxr-segmentation-data, `OriginalResolution/{ChestX-Ray8,CheXpert,MIMIC-CXR-JPG,Padchest,VinDr-CXR,
CANDID-PTX}.csv(.gz)`. The records are the corpus's own, with masks added where the estimated quality suffices.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import ModuleType

from PIL import Image

from data_scripts.films.images import open_image
from data_scripts.loaders import load_loader
from data_scripts.schema import DataError, Mask, Record, Skipped, Source, within

SOURCE = Source(
    name="chexmask",
    title="CheXmask outlines of lungs and heart",
    version="1.0.0",
    url="https://physionet.org/content/chexmask-cxr-segmentation-data/",
    licence="CC BY 4.0 (the outlines); films and labels keep the terms of their corpus",
    # The strictest of its corpora.
    access="credentialed",
    traps=(
        "Exposure: the films are pretraining corpora, training and test lists alike; each record keeps the split of "
        "its corpus.",
        "No person drew the outlines: a model did, and a second one estimated their quality (Dice RCA). The authors "
        "advise a mean of at least 0.7.",
        "Take the folder OriginalResolution: outlines of Preprocessed are on padded films of 1,024 pixels.",
        "Numbers are those of the corpus; 676,803 outlines in all. CANDID-PTX is part of some versions only.",
        "Records come in the order of the table of masks, so that it never has to fit into memory.",
    ),
    shares_films_with=("nih_chestxray14", "chexpert_plus", "mimic_cxr_jpg", "padchest", "vindr_cxr", "candid_ptx"),
)
TEXT_OPTIONAL = True

#: Corpora by loader: the column that names the film, and how many parts of its path make it unique.
CORPORA = {
    "nih_chestxray14": ("Image Index", 1),
    "chexpert_plus": ("Path", 4),
    "mimic_cxr_jpg": ("dicom_id", 1),
    "padchest": ("ImageID", 1),
    "vindr_cxr": ("image_id", 1),
    "candid_ptx": ("ImageID", 1),
}
QUALITY = "Dice RCA (Mean)"
STRUCTURES = {"left lung": "Left Lung", "right lung": "Right Lung", "heart": "Heart"}
_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


@dataclass
class Options:
    """Arguments of this loader."""

    corpus: str = field(
        default="nih_chestxray14", metadata={"help": "Loader of the films' corpus.", "choices": list(CORPORA)}
    )
    corpus_options: str = field(
        default="{}", metadata={"help": 'Arguments of that loader as JSON, such as {"validation_share": 0}.'}
    )
    masks: str = field(
        default="ChestX-Ray8.csv", metadata={"help": "The table of outlines, below the raw folder or an own path."}
    )
    min_dice_rca: float = field(default=0.7, metadata={"help": "Least mean Dice RCA of outlines that are taken."})

    def __post_init__(self):
        if self.corpus not in CORPORA:
            raise ValueError(f"corpus is {self.corpus!r}, allowed: {list(CORPORA)}")
        if not 0 <= self.min_dice_rca <= 1:
            raise ValueError(f"min_dice_rca is {self.min_dice_rca}, it must be from 0 to 1")


def _corpus(options: Options) -> tuple[ModuleType, object]:
    """The loader of the films and its options."""
    loader = load_loader(options.corpus)
    try:
        return loader, loader.Options(**json.loads(options.corpus_options))
    except (ValueError, TypeError) as error:
        raise DataError(f"corpus_options {options.corpus_options!r} do not suit {options.corpus}: {error}") from error


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    loader, corpus_options = _corpus(options)
    column, parts = CORPORA[options.corpus]
    waiting: dict[str, Record] = {}
    for record in loader.read_records(raw, corpus_options):
        if isinstance(record, Skipped):
            yield record
            continue
        key = _key(record.image_path, parts)
        if key in waiting:
            yield Skipped(record.record_id, f"{key} is a film of {waiting[key].record_id}, too", "film listed twice")
        else:
            waiting[key] = record
    seen = set()
    for where, row in _read_masks(raw / options.masks, column):
        key = _key(row[column], parts)
        if key in seen:
            yield Skipped(where, f"{row[column]} has outlines already", "film listed twice")
        elif key not in waiting:
            yield Skipped(where, f"{row[column]} is not a film of {options.corpus}", "mask without a film")
        else:
            seen.add(key)
            try:
                yield _with_masks(waiting.pop(key), row, options.min_dice_rca)
            except DataError as error:
                yield Skipped(where, str(error), error.kind)
    for record in waiting.values():
        yield replace(record, flags=[*record.flags, "no_outline"])


def read_image(raw: Path, record: Record, options: Options) -> tuple[Image.Image, dict]:
    """The film as the corpus's own loader reads it."""
    loader, corpus_options = _corpus(options)
    if hasattr(loader, "read_image"):
        return loader.read_image(raw, record, corpus_options)
    return open_image(within(raw, record.image_path)), {}


def _key(path: str, parts: int) -> str:
    """The last parts of a path, without the suffix of an image: tables and downloads differ in it."""
    path = PurePosixPath(path)
    if path.suffix.lower() in _SUFFIXES:
        path = path.with_suffix("")
    return "/".join(path.parts[-parts:])


def _read_masks(path: Path, column: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Where, and the row, one at a time: the whole table has gigabytes.

    Raises:
        DataError: the table or a column is missing.
    """
    if not path.is_file():
        raise DataError(f"{path}: the table of outlines is missing, give it by --masks")
    # Run lengths are longer than csv's limit of a cell.
    csv.field_size_limit(sys.maxsize)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for name in (column, QUALITY, "Height", "Width", *STRUCTURES.values()):
            if name not in (reader.fieldnames or ()):
                raise DataError(f"{path}: column {name!r} is missing; the table has {reader.fieldnames}")
        for number, row in enumerate(reader, start=1):
            yield f"{path.name} row {number}", row


def _with_masks(record: Record, row: dict[str, str], min_dice_rca: float) -> Record:
    """The record with lungs apart and together, and heart; with a flag instead where the quality is too low."""
    try:
        quality = float(row[QUALITY])
        size = (int(float(row["Height"])), int(float(row["Width"])))
    except ValueError as error:
        raise DataError(f"{record.record_id}: quality, height or width is not a number ({error})") from error
    # Not a number fails the comparison, too.
    if not quality >= min_dice_rca:
        return replace(record, flags=[*record.flags, "poor_outline"])
    runs = {name: row[column].strip() for name, column in STRUCTURES.items()}
    masks = {name: Mask("rle_absolute", [text], size=size) for name, text in runs.items() if text}
    if runs["left lung"] and runs["right lung"]:
        masks["lungs"] = Mask("rle_absolute", [runs["left lung"], runs["right lung"]], size=size)
    return replace(record, masks={**record.masks, **masks})

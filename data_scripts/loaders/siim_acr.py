"""SIIM-ACR Pneumothorax Segmentation Challenge: 12,047 frontal films with masks of pneumothorax.

Layout (Kaggle): `dicom-images-train/<study>/<series>/<ImageId>.dcm`, `dicom-images-test/...`, and `stage_2_train.csv`,
which labels both folders; with the older `train-rle.csv` alone the training folder is read. The second column's name
and values begin with a space. Several rows of a film are separate masks whose union counts; "-1" is no mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.reading.matching import EvaluationSplit, films_below, match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source

SOURCE = Source(
    name="siim_acr",
    title="SIIM-ACR Pneumothorax Segmentation Challenge",
    version="stage 2, 2019",
    url="https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation",
    licence="rules of the competition, accepted on Kaggle before the download",
    access="registration",
    expected={"train": 10_675, "test": 1_372},
    traps=(
        "Exposure: all films are taken from NIH ChestX-ray14; a model pretrained on NIH has seen most of them.",
        "The usual test set are the films of `dicom-images-test`, labelled in the table of stage 2 alone; five of them "
        "never were and are skipped.",
        "Run lengths are relative to the end of the last run and go down the columns; read as absolute positions they "
        "give noise without an error.",
        "Splits of rows instead of films put masks of one film on both sides. There are no patient ids.",
    ),
    shares_films_with=("nih_chestxray14",),
)
TEXT_OPTIONAL = True

#: Folder of films, and its split.
FOLDERS = {"dicom-images-train": "train", "dicom-images-test": "test"}
TABLES = ("stage_2_train.csv", "train-rle.csv")
#: All films are of this height and width.
FRAME = (1024, 1024)


@dataclass
class Options(EvaluationSplit):
    """Arguments of this loader; the shares are of the training folder."""

    validation_share: float = field(
        default=0.1, metadata={"help": "Share of the films of dicom-images-train for validation."}
    )
    test_share: float = field(default=0.0, metadata={"help": "Further share of them for testing."})


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    table_path = next((raw / name for name in TABLES if (raw / name).is_file()), None)
    if table_path is None:
        raise DataError(f"{raw}: the table is missing, expected {' or '.join(TABLES)}")
    # The table of stage 1 labels no test film.
    folders = [name for name in FOLDERS if table_path.name == TABLES[0] or FOLDERS[name] == "train"]
    films: dict[str, str] = {}
    for folder in folders:
        films |= films_below(raw, folder, (".dcm",), key=lambda path: path.stem)
    entries = ((where, key, (key, masks)) for key, (where, masks) in _read_masks(table_path).items())
    yield from match_films(entries, films, lambda entry, path: _record(*entry, path, options), table_path.name)


def _read_masks(path: Path) -> dict[str, tuple[str, list[str]]]:
    """By film: its first row, and the run lengths of all its masks (none: no pneumothorax)."""
    table = read_table(path)
    table.columns = [name.strip() for name in table.columns]
    require_columns(table, ("ImageId", "EncodedPixels"), path)
    found: dict[str, list[str]] = defaultdict(list)
    first = {}
    for number, row in rows_of(table):
        key = row["ImageId"].strip()
        first.setdefault(key, f"{path.name} row {number}")
        found[key].append(row["EncodedPixels"].strip())
    return {key: (first[key], runs) for key, runs in found.items()}


def _record(key: str, runs: list[str], path: str, options: Options) -> Record:
    if "" in runs or ("-1" in runs and len(runs) > 1):
        raise DataError(f"EncodedPixels is {runs}: expected '-1' alone, or run lengths in every row", "unknown label")
    masks = [run for run in runs if run != "-1"]
    split = FOLDERS[path.split("/")[0]]
    return Record(
        record_id=f"{SOURCE.name}/{key}",
        source=SOURCE.name,
        patient_id=key,
        study_id=key,
        split=options.split(key) if split == "train" else split,
        image_path=path,
        labels=[Label("Pneumothorax", int(bool(masks)))],
        masks={"Pneumothorax": Mask("rle_relative", masks, size=FRAME)} if masks else {},
    )

"""Kermany et al. 2018: 5,856 frontal films of children of one to five years, pneumonia or normal.

Layout (Mendeley or Kaggle): `chest_xray/{train,test}/{NORMAL,PNEUMONIA}/*.jpeg`, from Kaggle also `val/`. The raw
folder may be the one above or `chest_xray` itself; Kaggle's second copy within `chest_xray/chest_xray` is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_scripts.reading.matching import films_below, is_second, match_films
from data_scripts.schema import DataError, Label, Record, Skipped, Source

SOURCE = Source(
    name="kermany",
    title="Chest X-ray images (pneumonia) of Kermany et al.",
    version="Mendeley rscbjbr9sj, version 2 or 3",
    url="https://data.mendeley.com/datasets/rscbjbr9sj",
    licence="CC BY 4.0",
    access="open",
    traps=(
        "Exposure: of no other corpus here. Children of one to five years: models of adults meet another population.",
        "Numbers of the complete set are left open: Kaggle moved 16 films from train to `val`, versions differ; the "
        "test folder has 624 films (234 normal, 390 pneumonia).",
        "Patients are numbered anew in each folder and normal films by study: leakage between train and test cannot "
        "be ruled out.",
        "Some films are RGB.",
    ),
)
TEXT_OPTIONAL = True

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_CLASSES = {"NORMAL": 0, "PNEUMONIA": 1}
#: person12_virus_46, BACTERIA-1008087-0001, IM-0115-0001, NORMAL2-IM-0035-0001: what is in brackets is one patient.
_PATIENT = re.compile(r"(person\d+|(?:BACTERIA|VIRUS|NORMAL)-\d+|(?:NORMAL2-)?IM-\d+)[_-]")


@dataclass
class Options:
    """This loader has no arguments: the folders give labels and splits."""


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    root = next((candidate for candidate in ("chest_xray", ".") if (raw / candidate / "test").is_dir()), None)
    if root is None:
        raise DataError(f"{raw}: neither chest_xray/test nor test is there; the raw folder is the unpacked download")
    for part, split in _SPLITS.items():
        # Kaggle alone has `val`.
        if part == "val" and not (raw / root / part).is_dir():
            continue
        films = films_below(
            raw, f"{root}/{part}", (".jpeg", ".jpg"), key=lambda path: f"{path.parent.name}/{path.stem}"
        )
        entries = [(path, key, key) for key, path in films.items() if not is_second(key)]
        yield from match_films(
            entries, films, lambda key, path, part=part, split=split: _record(key, path, part, split), part
        )


def _record(key: str, path: str, part: str, split: str) -> Record:
    folder, name = key.split("/")
    if folder not in _CLASSES:
        raise DataError(f"the folder is {folder!r}, expected {list(_CLASSES)}", "unknown class")
    patient = _PATIENT.match(name)
    if patient is None:
        raise DataError(f"the name {name!r} is of no known form (person1_virus_6, IM-0115-0001, ...)", "unknown name")
    # `val` was taken from `train`, so both count patients together.
    patient_id = f"{'test' if part == 'test' else 'train'}-{patient[1]}"
    cause = name.lower()
    return Record(
        record_id=f"{SOURCE.name}/{part}/{folder}/{name}",
        source=SOURCE.name,
        patient_id=patient_id,
        study_id=f"{part}-{name}",
        split=split,
        image_path=path,
        labels=[
            Label("Pneumonia", _CLASSES[folder]),
            Label("Bacterial Pneumonia", int(folder == "PNEUMONIA" and "bacteria" in cause)),
            Label("Viral Pneumonia", int(folder == "PNEUMONIA" and "virus" in cause)),
        ],
    )

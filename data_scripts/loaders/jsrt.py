"""JSRT: 247 films with or without a lung nodule, and the SCR outlines of lungs, heart and clavicles.

Layout: `All247images/JPCLN001.IMG` ... (headerless big-endian 16-bit, 2,048 x 2,048, 12 bits used, air bright), the
tables `CLNDAT_EN.txt` (films with a nodule) and `CNNDAT_EN.TXT` (without), both tab-separated without a header; and of
SCR `Masks/{fold1,fold2}/masks/{left lung,right lung,heart,left clavicle,right clavicle}/JPCLN001.gif`. Tables and masks
may be missing: the labels are in the film names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from data_scripts.reading.ages import parse_age
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.splits import split_by_patient
from data_scripts.reading.views import normalise_sex
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source, within

SOURCE = Source(
    name="jsrt",
    title="JSRT digital image database with SCR segmentations",
    version="1998; SCR 2006",
    url="http://db.jsrt.or.jp/eng.php",
    licence="research and education, not to be passed on; SCR: research only",
    access="registration",
    expected={"train": 124, "test": 123},
    traps=(
        "Exposure: of no pretraining corpus here.",
        "Raw values are inverted (air is bright); read here as 1 - value / 4096.",
        "Every film is of another patient. The folds are those of SCR: odd numbers train, even numbers test.",
        "Masks are of 1,024 pixels, the films of 2,048.",
        "The published description of the nodule table has its columns in another order than the file.",
    ),
)
TEXT_OPTIONAL = True

SIDE, LEVELS = 2048, 4096
#: Folders of SCR and the names of the structures in them.
STRUCTURES = ("left lung", "right lung", "heart", "left clavicle", "right clavicle")
_NAME = re.compile(r"JPC(LN|NN)(\d{3})")
#: Where age and sex are: of nodule films after subtlety and size.
_TABLES = {"CLNDAT_EN.txt": 3, "CNNDAT_EN.TXT": 1}


@dataclass
class Options:
    """Arguments of this loader."""

    validation_share: float = field(default=0.0, metadata={"help": "Share of the first fold for validation."})
    split_seed: int = field(default=0, metadata={"help": "Seed of that share."})
    all_test: bool = field(default=False, metadata={"help": "Use both folds for testing (zero-shot evaluation)."})


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    films = films_below(raw, "All247images", (".img",), key=lambda path: path.stem.upper())
    people = _read_people(raw)
    # The films are the list; the tables add to them.
    entries = [(path, key, key) for key, path in films.items()]
    yield from match_films(entries, films, lambda key, path: _record(key, path, raw, people, options), "All247images")
    for key in sorted(set(people) - set(films)):
        yield Skipped(key, f"{key} is in the clinical tables but its film is missing", "image file missing")


def read_image(raw: Path, record: Record, options: Options) -> tuple[Image.Image, dict]:
    """The film as 16-bit grey with air dark; its masks are files, read from `record.masks`.

    Raises:
        DataError: the file has not 2,048 x 2,048 values of two bytes, or values beyond 12 bits.
    """
    path = within(raw, record.image_path)
    if not path.is_file():
        raise DataError(f"{path}: the image file is missing", "image file missing")
    expected = SIDE * SIDE * 2
    if path.stat().st_size != expected:
        raise DataError(f"{path}: {path.stat().st_size} bytes instead of {expected}", "image damaged")
    values = np.fromfile(path, dtype=">u2").reshape(SIDE, SIDE)
    if values.max() > LEVELS:
        raise DataError(
            f"{path}: values up to {values.max()} in a 12-bit film; are the bytes swapped?", "image damaged"
        )
    # Spread over 16 bits: readers scale by the full range of the mode.
    inverted = (LEVELS - values.astype(np.uint32)) * 65_535 // LEVELS
    return Image.fromarray(inverted.astype(np.uint16)), {}


def _read_people(raw: Path) -> dict[str, tuple[str | None, float | None]]:
    """Sex and age by film, from the clinical tables where they are."""
    people = {}
    for table, age_at in _TABLES.items():
        path = next(
            (
                candidate
                for candidate in (raw / table, raw / table.swapcase(), raw / table.lower())
                if candidate.is_file()
            ),
            None,
        )
        path = path or next(iter(raw.rglob(f"{table[:-4]}.*")), None)
        for line in path.read_text(encoding="latin-1").splitlines() if path else ():
            cells = [cell.strip() for cell in line.split("\t")]
            if _NAME.match(cells[0].upper()) and len(cells) > age_at + 1:
                age, sex = cells[age_at : age_at + 2]
                people[Path(cells[0]).stem.upper()] = (
                    normalise_sex(sex[:1]),
                    parse_age(age),
                )
    return people


def _masks(key: str, raw: Path) -> dict[str, Mask]:
    found = {
        structure: str(path.relative_to(raw))
        for structure in STRUCTURES
        for fold in ("fold1", "fold2")
        if (path := raw / "Masks" / fold / "masks" / structure / f"{key}.gif").is_file()
    }
    masks = {structure: Mask("file", path) for structure, path in found.items()}
    if {"left lung", "right lung"} <= set(found):
        masks["lungs"] = Mask("file", [found["left lung"], found["right lung"]])
    return masks


def _record(key: str, path: str, raw: Path, people: dict, options: Options) -> Record:
    name = _NAME.fullmatch(key)
    if name is None:
        raise DataError(f"the name {key!r} is not JPCLN or JPCNN and three digits", "unknown name")
    split = "test" if options.all_test or int(name[2]) % 2 == 0 else "train"
    if split == "train":
        split = split_by_patient(key, options.validation_share, 0.0, options.split_seed)
    sex, age = people.get(key, (None, None))
    return Record(
        record_id=f"{SOURCE.name}/{key}",
        source=SOURCE.name,
        patient_id=key,
        study_id=key,
        split=split,
        image_path=path,
        labels=[Label("Nodule", int(name[1] == "LN"))],
        masks=_masks(key, raw),
        view="PA",
        sex=sex,
        age_years=age,
    )

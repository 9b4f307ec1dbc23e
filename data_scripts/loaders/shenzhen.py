"""Shenzhen hospital: 662 frontal films, half with tuberculosis, short readings and (released apart) lung outlines.

Layout: `ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png` (the last digit: 1 is tuberculosis) and
`ChinaSet_AllFiles/ClinicalReadings/CHNCXR_0001_0.txt` (first line such as "male 45yrs", then what was read). Outlines
of 566 films, if present: `mask/CHNCXR_0001_0_mask.png`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.reading.matching import EvaluationSplit, films_below, match_films
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source

SOURCE = Source(
    name="shenzhen",
    title="Shenzhen chest X-ray set",
    version="2014",
    url="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html#tuberculosis-image-data-sets",
    licence="public; cite Jaeger et al. 2014 and acknowledge the NLM and Shenzhen No. 3 People's Hospital",
    access="open",
    expected={"test": 662},
    traps=(
        "Exposure: TBX11K repeats the films in its `extra` folder (our loader tbx11k leaves that out).",
        "Lung outlines are a separate release (Stirenko et al. 2018) of 566 of the films.",
        "The readings of the films are a few words by a radiologist, not reports.",
        "Ages may be given in months or days; they become years.",
        "The projection is not given for each film (mostly postero-anterior).",
    ),
)
TEXT_OPTIONAL = True

ROOTS = ("ChinaSet_AllFiles", "ChinaSet_AllFiles/ChinaSet_AllFiles", ".")
_NAME = re.compile(r"CHNCXR_\d+_([01])")
#: "male 45yrs", "Female, 8 months": spellings vary.
_PERSON = re.compile(r"(female|male)\b[\s,.]*(?:(\d+)[ \t]*(?:([ymd])[a-z]*)?[\s,.]*)?", re.IGNORECASE)
_PER_YEAR = {"y": 1, "m": 12, "d": 365.25}


@dataclass
class Options(EvaluationSplit):
    """Arguments of this loader."""

    mask_dir: str = field(default="mask", metadata={"help": "Folder of the lung outlines, below the raw folder."})


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    root = next((candidate for candidate in ROOTS if (raw / candidate / "CXR_png").is_dir()), None)
    if root is None:
        raise DataError(f"{raw}: CXR_png is in none of {list(ROOTS)}; the raw folder is the unpacked download")
    films = films_below(raw, f"{root}/CXR_png", (".png",), key=lambda path: path.stem)
    # The names of the films are the labels.
    entries = [(path, key, key) for key, path in films.items()]
    yield from match_films(entries, films, lambda key, path: _record(key, path, raw, Path(root), options), "CXR_png")


def _record(key: str, path: str, raw: Path, root: Path, options: Options) -> Record:
    name = _NAME.fullmatch(key)
    if name is None:
        raise DataError("the name is not CHNCXR, number and 0 or 1", "unknown name")
    sex, age, text = _read_text(raw / root / "ClinicalReadings" / f"{key}.txt")
    mask = Path(options.mask_dir) / f"{key}_mask.png"
    return Record(
        record_id=f"{SOURCE.name}/{key}",
        source=SOURCE.name,
        patient_id=key,
        study_id=key,
        split=options.split(key),
        image_path=path,
        findings=text,
        report_origin="note",
        labels=[Label("Tuberculosis", int(name[1]))],
        masks={"lungs": Mask("file", str(mask))} if (raw / mask).is_file() else {},
        sex=sex,
        age_years=age,
    )


def _read_text(path: Path) -> tuple[str | None, float | None, str]:
    """Sex, age in years and the words of a reading; all blank where there is none."""
    reading = path.read_text(encoding="latin-1").strip() if path.is_file() else ""
    person = _PERSON.match(reading)
    if person is None:
        return None, None, reading
    age = round(int(person[2]) / _PER_YEAR[(person[3] or "y").lower()], 2) if person[2] else None
    text = "\n".join(line.strip() for line in reading[person.end() :].splitlines() if line.strip())
    return person[1][0].upper(), age, text

"""Montgomery County: 138 frontal films of a tuberculosis programme, with outlines of both lungs and short readings.

Layout: `MontgomerySet/` (or `NLM-MontgomeryCXRSet/MontgomerySet/`) with `CXR_png/MCUCXR_0001_0.png` (the last digit: 1
is tuberculosis), `ManualMask/{leftMask,rightMask}/` and `ClinicalReadings/MCUCXR_0001_0.txt` (sex, age, what was read).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_scripts.reading.matching import EvaluationSplit, films_below, match_films
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source

SOURCE = Source(
    name="montgomery",
    title="Montgomery County chest X-ray set",
    version="2014",
    url="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html#tuberculosis-image-data-sets",
    licence="public; cite Jaeger et al. 2014 and acknowledge the NLM and the Montgomery County programme",
    access="open",
    expected={"test": 138},
    traps=(
        "Exposure: TBX11K repeats the films in its `extra` folder (our loader tbx11k leaves that out).",
        "Films come from two machines and are of about 4,020 x 4,892 pixels; some have wide black borders.",
        "The readings of the films are a few words by a radiologist, not reports.",
        "There are 80 normal films and 58 with tuberculosis; one film for each patient.",
    ),
)
TEXT_OPTIONAL = True

ROOTS = ("MontgomerySet", "NLM-MontgomeryCXRSet/MontgomerySet", ".")
_NAME = re.compile(r"MCUCXR_\d+_([01])")
_SEX = re.compile(r"sex:\s*([MF])", re.IGNORECASE)
_AGE = re.compile(r"age:\s*(\d+)\s*Y", re.IGNORECASE)


@dataclass
class Options(EvaluationSplit):
    """Arguments of this loader."""


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
        raise DataError("the name is not MCUCXR, number and 0 or 1", "unknown name")
    reading = _read_text(raw / root / "ClinicalReadings" / f"{key}.txt")
    sex, age = _SEX.search(reading), _AGE.search(reading)
    lines = [line.strip() for line in reading.splitlines()]
    return Record(
        record_id=f"{SOURCE.name}/{key}",
        source=SOURCE.name,
        patient_id=key,
        study_id=key,
        split=options.split(key),
        image_path=path,
        findings="\n".join(line for line in lines if line and not line.lower().startswith("patient's")),
        report_origin="note",
        labels=[Label("Tuberculosis", int(name[1]))],
        masks=_masks(key, raw, root),
        # The set's description says postero-anterior of all films.
        view="PA",
        sex=sex[1].upper() if sex else None,
        age_years=float(age[1]) if age else None,
    )


def _read_text(path: Path) -> str:
    return path.read_text(encoding="latin-1") if path.is_file() else ""


def _masks(key: str, raw: Path, root: Path) -> dict[str, Mask]:
    """Both lungs apart and together; nothing where an outline is missing."""
    sides = {
        side: str(root / "ManualMask" / folder / f"{key}.png")
        for side, folder in (("left lung", "leftMask"), ("right lung", "rightMask"))
    }
    found = {side: path for side, path in sides.items() if (raw / path).is_file()}
    masks = {side: Mask("file", path) for side, path in found.items()}
    if len(found) == len(sides):
        masks["lungs"] = Mask("file", list(found.values()))
    return masks

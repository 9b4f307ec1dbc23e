"""ReXGradient-160K: 273,004 films of 160,000 studies of 109,487 patients of 3 US health systems, with reports.

Layout (https://huggingface.co/datasets/rajpurkarlab/ReXGradient-160K): `metadata/train_metadata_view_position.json`,
`metadata/valid_...`, `metadata/test_...`, and the films `deid_png/<PatientID>/<AccessionNumber>/studies/<UID>/series/
<UID>/instances/<UID>.png` (join `deid_png.part00` ... and unpack the result with `tar --zstd -x`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_scripts.reading.ages import parse_age
from data_scripts.reading.reports import ReportText
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import DataError, Record, Skipped, Source

SOURCE = Source(
    name="rexgradient_160k",
    title="ReXGradient-160K",
    version="2025",
    url="https://huggingface.co/datasets/rajpurkarlab/ReXGradient-160K",
    licence="gated on the Hugging Face Hub: non-commercial data use agreement",
    access="registration",
    expected={"train": 238_968, "validation": 17_007, "test": 17_029},
    traps=(
        "There are no labels.",
        "About one film in ten has no known view; most of these are frontal.",
        "Films are a quarter of the original size.",
        "Some studies hold films of the abdomen (KUB) and of lines (PICC LINE): view OTHER.",
        "The report repeats for each film of a study.",
        "Films in deid_png that no study names are not looked for.",
    ),
)

#: Of a part its split; the files are named after the parts.
PARTS = {"train": "train", "valid": "validation", "test": "test"}
FIELDS = ("PatientID", "Findings", "Impression", "ImagePath", "ImageViewPosition")
TEXTS = ("Findings", "Impression")


@dataclass
class Options(ReportText):
    """Arguments of this loader."""

    parts: list[str] = field(
        default_factory=lambda: list(PARTS), metadata={"help": "Parts to read.", "choices": list(PARTS)}
    )

    def __post_init__(self):
        if not self.parts or not set(self.parts) <= set(PARTS):
            raise ValueError(f"parts is {self.parts}, allowed are some of {list(PARTS)}")


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    for part in options.parts:
        path = raw / "metadata" / f"{part}_metadata_view_position.json"
        for key, study in read_studies(path).items():
            yield from study_records(key, study, PARTS[part], options)


def read_studies(path: Path) -> dict[str, dict]:
    """Studies by key ("p..._a..._s...").

    Raises:
        DataError: the file is missing or holds something else.
    """
    if not path.is_file():
        raise DataError(f"{path}: the metadata file is missing", "table missing")
    try:
        studies = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(studies, dict):
        raise DataError(f"{path}: an object of studies by key is expected, this is a {type(studies).__name__}")
    return studies


def study_records(key: str, study: dict, split: str, options: Options) -> Iterator[Record | Skipped]:
    """A record for each film of a study; one `Skipped` where the study cannot be read."""
    missing = [name for name in FIELDS if name not in study] if isinstance(study, dict) else list(FIELDS)
    if missing:
        yield Skipped(key, f"fields {missing} are missing", "field missing")
        return
    paths, views = study["ImagePath"] or [], study["ImageViewPosition"] or []
    wrong = [name for name in TEXTS if not isinstance(study.get(name) or "", str)]
    wrong += [
        name for name, value in (("ImagePath", paths), ("ImageViewPosition", views)) if not isinstance(value, list)
    ]
    if wrong:
        yield Skipped(key, f"{wrong[0]} is of kind {type(study[wrong[0]]).__name__}", "field of another kind")
    elif len(paths) != len(views):
        yield Skipped(key, f"{len(paths)} films, but {len(views)} views", "lists of different length")
    elif not paths:
        yield Skipped(key, "the study has no film", "report without a film")
    else:
        for path, view in zip(paths, views, strict=True):
            try:
                yield _record(key, study, image_path(path), view, split, options)
            except DataError as error:
                yield Skipped(key, str(error), error.kind)


def image_path(text: str) -> str:
    """Where a film is below the raw folder: paths are written as seen from `metadata/`.

    Raises:
        DataError: it is elsewhere.
    """
    path = PurePosixPath(str(text).removeprefix("../"))
    if path.parts[:1] != ("deid_png",) or ".." in path.parts:
        raise DataError(f"film {text!r}: expected is ../deid_png/....png", "path outside of the films")
    return str(path)


def _record(key: str, study: dict, path: str, view: str | None, split: str, options: Options) -> Record:
    return Record(
        record_id=f"{SOURCE.name}/{path.removeprefix('deid_png/').removesuffix('.png')}",
        source=SOURCE.name,
        patient_id=str(study["PatientID"]),
        study_id=key,
        split=split,
        image_path=path,
        findings=options.tidy(study["Findings"] or ""),
        impression=options.tidy(study["Impression"] or ""),
        view=normalise_view(view),
        sex=normalise_sex(str(study.get("PatientSex") or "")),
        age_years=parse_age(str(study.get("PatientAge") or "")),
    )

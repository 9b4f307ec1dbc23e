"""CheXpert Plus: the 223,462 films of CheXpert's training and validation sets with their reports.

Layout: `df_chexpert_plus_240401.csv` and one copy of the films: `PNG/` (the archives unpack to `PNG/PNG/train/...`),
`DICOM/Uncompressed/` or `DICOM/Compressed/`, or the JPEGs of CheXpert v1.0 (`CheXpert-v1.0/`, `CheXpert-v1.0-small/`).
Labels, each where it is there: `train.csv` of v1.0, `chexbert_labels/report_fixed.json`, `valid.csv` of v1.0. With
`chexpert_5x200.csv` (https://github.com/marshuang80/gloria), `--test_patients` keeps its patients out of training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_scripts.reading.ages import require_age
from data_scripts.reading.labels import CHEXPERT_LABELS, row_labels
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.reports import ReportText
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import DataError, Label, Record, Skipped, Source

SOURCE = Source(
    name="chexpert_plus",
    title="CheXpert Plus",
    version="240401",
    url="https://github.com/Stanford-AIMI/chexpert-plus",
    licence="Stanford University Dataset Research Use Agreement; non-commercial, no redistribution",
    access="registration",
    expected={"train": 223_228, "validation": 234},
    traps=(
        "Most reports have an impression and no findings; the report repeats for each film of a study.",
        "Paths end in .jpg, whatever the kind of the films; `view1` is not always frontal.",
        "The validation films have labels by radiologists (valid.csv), the training films labels by rules.",
        "CheXpert 5x200 consists of training films: arXiv 2602.22843 leaves out its 1,000 films, but not the other "
        "films of their 966 patients; --test_patients moves all of them to the test split.",
        "Uncertain labels (-1) are customarily read as present for atelectasis, edema and effusion, and as absent for "
        "cardiomegaly and consolidation.",
        "Some DICOM files lack HighBit; unfinished downloads (.azDownload-*) are passed over.",
        "Ages are capped at 90.",
    ),
)

TABLE = "df_chexpert_plus_240401.csv"
COLUMNS = (
    *("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "section_findings", "section_impression"),
    *("age", "sex", "split"),
)
#: Folders of films; the first that is there is read.
IMAGE_FOLDERS = ("PNG", "CheXpert-v1.0", "CheXpert-v1.0-small", "DICOM/Uncompressed", "DICOM/Compressed", "train")
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")
#: Files of labels by increasing trust: a later one replaces what an earlier one says of a film.
LABEL_FILES = (
    *(f"{folder}train.csv" for folder in ("", "CheXpert-v1.0/", "CheXpert-v1.0-small/")),
    *(f"{folder}report_fixed.json" for folder in ("", "chexbert_labels/")),
    *(f"{folder}valid.csv" for folder in ("", "CheXpert-v1.0/", "CheXpert-v1.0-small/")),
)
SPLITS = {"train": "train", "valid": "validation"}


@dataclass
class Options(ReportText):
    """Arguments of this loader."""

    image_folder: str | None = field(
        default=None, metadata={"help": f"Folder of the films; default: the first there of {', '.join(IMAGE_FOLDERS)}."}
    )
    label_files: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Tables of labels (train.csv, chexbert JSON ...), the most trusted last; default: all there."
        },
    )
    test_patients: str | None = field(
        default=None,
        metadata={"help": "Table with a column Path (chexpert_5x200.csv): its patients go to the test split."},
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    table = read_table(raw / TABLE)
    require_columns(table, COLUMNS, raw / TABLE)
    folder = image_folder(raw, options.image_folder)
    films = films_below(raw, folder, SUFFIXES, lambda path: film_key(path.as_posix()))
    labels, bad_rows = read_labels(raw, options.label_files or [name for name in LABEL_FILES if (raw / name).is_file()])
    patients = read_patients(raw / options.test_patients) if options.test_patients else set()
    entries = ((f"{TABLE} row {number}", film_key(row["path_to_image"]), row) for number, row in rows_of(table))
    yield from bad_rows
    yield from match_films(entries, films, lambda row, path: make_record(row, path, labels, patients, options), TABLE)


def film_key(path: str) -> str:
    """ "patient00001/study1/view1_frontal" of any path of the film, with any prefix and suffix."""
    return "/".join(PurePosixPath(path.strip()).with_suffix("").parts[-3:])


def image_folder(raw: Path, named: str | None) -> str:
    """The folder of films, relative to `raw`.

    Raises:
        DataError: none of the usual ones is there.
    """
    folder = named or next((name for name in IMAGE_FOLDERS if (raw / name).is_dir()), None)
    if folder is None:
        raise DataError(
            f"{raw}: there is no folder of films ({', '.join(IMAGE_FOLDERS)}); name it with --image_folder",
            "folder missing",
        )
    # Films of v1.0 directly in the raw folder.
    return "." if folder == "train" else folder


def make_record(
    row: dict[str, str], path: str, labels: dict[str, list[Label]], test_patients: set[str], options: Options
) -> Record:
    """The record of a row of the table.

    Raises:
        DataError: the split or the age is not as expected.
    """
    key = film_key(row["path_to_image"])
    patient, study, _ = key.split("/")
    if row["split"] not in SPLITS:
        raise DataError(f"split is {row['split']!r}, allowed: {sorted(SPLITS)}", "unknown split")
    lateral = row["frontal_lateral"].strip().lower() == "lateral"
    return Record(
        record_id=f"{SOURCE.name}/{key}",
        source=SOURCE.name,
        patient_id=patient,
        study_id=f"{patient}/{study}",
        split="test" if patient in test_patients else SPLITS[row["split"]],
        image_path=path,
        findings=options.tidy(row["section_findings"]),
        impression=options.tidy(row["section_impression"]),
        labels=labels.get(key, []),
        view="LATERAL" if lateral else normalise_view(row["ap_pa"]),
        sex=normalise_sex(row["sex"]),
        age_years=require_age(row["age"]),
    )


def read_patients(path: Path) -> set[str]:
    """The patients of a list of films.

    Raises:
        DataError: the table or its column Path is missing.
    """
    table = read_table(path)
    require_columns(table, ("Path",), path)
    # Some copies hold a list of one path, "['...']".
    return {film_key(text.strip("[]'\" ")).split("/")[0] for text in table["Path"]}


def read_labels(raw: Path, names: Iterable[str]) -> tuple[dict[str, list[Label]], list[Skipped]]:
    """Labels by the key of the film, which keeps what the last file says of it; and the rows that cannot be read.

    Raises:
        DataError: a file or column is missing.
    """
    labels, skipped = {}, []
    for name in names:
        path = raw / name
        for number, row in _read_chexbert(path) if path.suffix == ".json" else _read_v1(path):
            try:
                labels[film_key(row["film"])] = row_labels(row, CHEXPERT_LABELS)
            except (DataError, KeyError) as error:
                kind = error.kind if isinstance(error, DataError) else "no labels of CheXbert"
                skipped.append(Skipped(f"{name} row {number}", f"{path}: {error}", kind))
    return labels, skipped


def _read_v1(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    table = read_table(path)
    require_columns(table, ("Path", *CHEXPERT_LABELS), path)
    return rows_of(table.rename(columns={"Path": "film"}))


def _read_chexbert(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of the labels of CheXbert: a JSON object a line, values 1, 0, -1 or null; empty where a line is none."""
    if not path.is_file():
        raise DataError(f"{path}: the table is missing")
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                values = json.loads(line)
                row = {name: str(values[name]) for name in CHEXPERT_LABELS}
                yield number, {"film": str(values["path_to_image"]), **row}
            except (ValueError, KeyError, TypeError):
                yield number, {}

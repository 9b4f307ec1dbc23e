"""CheXpert validation and test set with the radiologists' labels and the segmentations of CheXlocalize.

Layout (Stanford AIMI download "CheXlocalize"):

    CheXpert/val/patientN/studyN/viewN_frontal.jpg   CheXpert/val_labels.csv
    CheXpert/test/...                                CheXpert/test_labels.csv
    CheXlocalize/gt_segmentations_val.json           CheXlocalize/gt_segmentations_test.json

Labels of a film are those of its study. A table with a column `Study` in place of `Path` (the `groundtruth.csv` of
github.com/rajpurkarlab/cheXpert-test-set-labels) is joined to every film of the study.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_scripts.reading.labels import CHEXPERT_LABELS, row_labels
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import DataError, Mask, Record, Skipped, Source

SOURCE = Source(
    name="chexlocalize",
    title="CheXpert validation and test set with CheXlocalize segmentations",
    version="2022",
    url="https://stanfordaimi.azurewebsites.net/datasets/abfb76e5-70d5-4315-badc-c94dd82e3d6d",
    licence="Stanford University Dataset Research Use Agreement: research only, not to be passed on",
    access="registration",
    expected={"validation": 234, "test": 668},
    traps=(
        "Exposure: CheXpert and CheXpert Plus are of the same hospital; their training lists leave these patients out, "
        "but a corpus that was read whole (with its validation films) holds the 234 of `val`. The 500 studies of "
        "`test` were never part of them.",
        "Labels are of the study: both films of a study carry them although a finding may be seen on one alone. "
        "Published figures count 500 studies, mostly by their first film (--first_film_only).",
        "Only films with a positive finding were segmented (499 of the 668); of those all ten structures are given, "
        "empty ones too.",
        "Segmentations call Lung Opacity 'Airspace Opacity'; here it has the name of its label.",
        "A first film is not always frontal.",
    ),
    shares_films_with=("chexpert_plus",),
)
TEXT_OPTIONAL = True

#: Our split, the folder and the end of the file names.
_PARTS = {"validation": "val", "test": "test"}
_STRUCTURES = {"Airspace Opacity": "Lung Opacity"}


@dataclass
class Options:
    """Arguments of this loader."""

    test_labels: str = field(
        default="CheXpert/test_labels.csv", metadata={"help": "Labels of the test films or studies."}
    )
    validation_labels: str = field(
        default="CheXpert/val_labels.csv", metadata={"help": "Labels of the validation films or studies."}
    )
    first_film_only: bool = field(default=False, metadata={"help": "Take the first film (view1) of each study alone."})


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    tables = {"validation": options.validation_labels, "test": options.test_labels}
    for split, part in _PARTS.items():
        films = films_below(raw, f"CheXpert/{part}", (".jpg", ".png"), key=_film_key)
        if options.first_film_only:
            films = {key: path for key, path in films.items() if "_view1_" in key}
        segmentations = _read_segmentations(raw / "CheXlocalize" / f"gt_segmentations_{part}.json")
        table = raw / tables[split]
        entries = _entries(table, films, options.first_film_only)

        def make_record(row: dict, path: str, split=split, segmentations=segmentations) -> Record:
            return _record(row, path, split, segmentations)

        yield from match_films(entries, films, make_record, table.name)
        # With first films alone, the others were left out by wish.
        lost = set(segmentations) - set(films)
        for key in sorted(key for key in lost if "_view1_" in key or not options.first_film_only):
            yield Skipped(key, f"{key} was segmented but its film is missing", "mask without a film")


def _film_key(path: PurePosixPath | Path) -> str:
    """patient64741_study1_view1_frontal, as CheXlocalize names films."""
    return "_".join((*path.parts[-3:-1], path.stem))


def _read_segmentations(path: Path) -> dict[str, dict]:
    if not path.is_file():
        raise DataError(f"{path}: the segmentations are missing, they are part of the CheXlocalize download")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error


def _entries(path: Path, films: dict[str, str], first_film_only: bool) -> Iterator[tuple[str, str, dict]]:
    """Where, film and row; a row of a study gives one entry for each of its films."""
    table = read_table(path)
    by_study = "Study" in table.columns
    require_columns(table, ["Study" if by_study else "Path", *CHEXPERT_LABELS], path)
    for number, row in rows_of(table):
        where = f"{path.name} row {number}"
        if not by_study:
            key = _film_key(PurePosixPath(row["Path"]))
            if "_view1_" in key or not first_film_only:
                yield where, key, row
            continue
        study = "_".join(PurePosixPath(row["Study"]).parts[-2:])
        keys = [key for key in films if key.startswith(study + "_")]
        # No film: the study itself is named as missing.
        for key in keys or [study]:
            yield where, key, row


def _record(row: dict[str, str], path: str, split: str, segmentations: dict[str, dict]) -> Record:
    key = _film_key(PurePosixPath(path))
    patient, study, _, side = key.split("_")
    masks = {
        _STRUCTURES.get(name, name): Mask("rle_coco", [{"size": rle["size"], "counts": rle["counts"]}])
        for name, rle in segmentations.get(key, {}).items()
    }
    return Record(
        record_id=f"{SOURCE.name}/{key}",
        source=SOURCE.name,
        patient_id=patient,
        study_id=f"{patient}_{study}",
        split=split,
        image_path=path,
        labels=row_labels(row, CHEXPERT_LABELS, "binary"),
        masks=masks,
        view=normalise_view(row.get("AP/PA") or side),
        # Tables of the whole corpus have them, the test labels may not.
        sex=normalise_sex(row.get("Sex")),
        age_years=float(row["Age"]) if row.get("Age", "").isdigit() else None,
    )

"""RSNA Pneumonia Detection Challenge (stage 2): 26,684 frontal films, boxes around opacities that suggest pneumonia.

Layout (Kaggle): `stage_2_train_labels.csv` (a row for each box), `stage_2_detailed_class_info.csv`, films
`stage_2_train_images/<patientId>.dcm`. The 3,000 films of `stage_2_test_images` are not read, since Kaggle gives no
labels, unless `--test_labels` names a list of them: a line for each film, its path and 1 or 0, as published with arXiv
2401.12215 (`stage_2_test_images/<patientId>.dcm 1`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_scripts.reading.film_lists import ListedFilm, read_film_list
from data_scripts.reading.labels import parse_label
from data_scripts.reading.matching import EvaluationSplit, films_below, match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source

SOURCE = Source(
    name="rsna_pneumonia",
    title="RSNA Pneumonia Detection Challenge",
    version="stage 2, 2018",
    url="https://www.kaggle.com/c/rsna-pneumonia-detection-challenge",
    licence="rules of the competition: not for commercial use",
    access="registration",
    # Of the seeded split only the sum is known beforehand.
    expected={"train": 26_684},
    traps=(
        "Exposure: every film is of NIH ChestX-ray14 under a new name; a model pretrained on NIH has seen most of "
        "them. RSNA publishes a mapping of the names.",
        "`patientId` names a film, not a patient: the seeded split may put films of one patient on both sides.",
        "'No Lung Opacity / Not Normal' is neither normal nor pneumonia; both labels are 0.",
        "The official test labels are not on Kaggle; splits of papers differ. The usual shares are 0.7, 0.15, 0.15. In "
        "the lists of arXiv 2401.12215, 0.23 of the training films show pneumonia, 0.15 of the validation films and "
        "0.36 of the test films.",
        "The projection is in the DICOM headers alone and is not read.",
    ),
    shares_films_with=("nih_chestxray14",),
)
TEXT_OPTIONAL = True

LABELS_TABLE, CLASS_TABLE = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
#: (Pneumonia, No Finding) of the challenge's three classes.
CLASSES = {"Normal": (0, 1), "No Lung Opacity / Not Normal": (0, 0), "Lung Opacity": (1, 0)}
#: Boxes are in pixels of films of this height and width.
FRAME = (1024, 1024)


@dataclass
class Options(EvaluationSplit):
    """Arguments of this loader."""

    validation_share: float = field(default=0.15, metadata={"help": "Share of the films for validation."})
    test_share: float = field(default=0.15, metadata={"help": "Share of the films for testing; 1: all."})
    test_labels: str | None = field(
        default=None,
        metadata={
            "help": "List of the films of stage_2_test_images with 1 (pneumonia) or 0: they are test films, too."
        },
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    films = films_below(raw, "stage_2_train_images", (".dcm",), key=lambda path: path.stem)
    boxes = read_table(raw / LABELS_TABLE)
    require_columns(boxes, ("patientId", "x", "y", "width", "height", "Target"), raw / LABELS_TABLE)
    classes = read_table(raw / CLASS_TABLE)
    require_columns(classes, ("patientId", "class"), raw / CLASS_TABLE)
    # The class is repeated for each box of a film.
    class_of = {row["patientId"]: row["class"] for _, row in rows_of(classes)}
    rows = defaultdict(list)
    for number, row in rows_of(boxes):
        rows[row["patientId"]].append((f"{LABELS_TABLE} row {number}", row))
    entries = ((found[0][0], key, (key, [row for _, row in found])) for key, found in rows.items())
    yield from match_films(entries, films, lambda entry, path: _record(*entry, class_of, path, options), LABELS_TABLE)
    if options.test_labels:
        yield from _test_records(raw, Path(options.test_labels))


def _test_records(raw: Path, labels: Path) -> Iterator[Record | Skipped]:
    """Of the challenge's own test films, which have neither a class nor boxes."""
    films = films_below(raw, "stage_2_test_images", (".dcm",), key=lambda path: path.stem)
    listed = read_film_list(labels)
    entries = ((film.where, PurePosixPath(film.path).stem, film) for film in listed)

    def make_record(film: ListedFilm, path: str) -> Record:
        if len(film.values) != 1:
            raise DataError(f"{film.values} behind the path are not 1 (pneumonia) or 0 alone", "no label")
        key, label = PurePosixPath(path).stem, Label("Pneumonia", parse_label(film.values[0], "binary"))
        return Record(f"{SOURCE.name}/{key}", SOURCE.name, key, key, "test", path, labels=[label])

    yield from match_films(entries, films, make_record, labels.name)


def _record(key: str, rows: list[dict[str, str]], class_of: dict[str, str], path: str, options: Options) -> Record:
    present = max(parse_label(row["Target"], "binary") for row in rows)
    if class_of.get(key) not in CLASSES:
        raise DataError(f"{CLASS_TABLE} gives the class {class_of.get(key)!r}, expected {list(CLASSES)}", "no class")
    pneumonia, normal = CLASSES[class_of[key]]
    if pneumonia != present:
        raise DataError(f"Target is {present} but the class is {class_of[key]!r}", "target and class disagree")
    boxes = [[float(row[name]) for name in ("x", "y", "width", "height")] for row in rows if row["x"]]
    return Record(
        record_id=f"{SOURCE.name}/{key}",
        source=SOURCE.name,
        patient_id=key,
        study_id=key,
        split=options.split(key),
        image_path=path,
        labels=[Label("Pneumonia", pneumonia), Label("No Finding", normal)],
        masks={"Pneumonia": Mask("boxes", boxes, size=FRAME)} if boxes else {},
    )

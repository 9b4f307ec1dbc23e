"""NIH ChestX-ray14: 112,120 frontal films with 14 labels mined from reports that were not released.

Layout (Box and Kaggle downloads): `Data_Entry_2017_v2020.csv` (or the older `Data_Entry_2017.csv`),
`train_val_list.txt`, `test_list.txt`, and the films below `images/` or `images_001/images/` ... Where
`BBox_List_2017.csv` is there too, its boxes become masks (984 boxes on 880 films).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data_scripts.reading.ages import parse_age
from data_scripts.reading.labels import listed_labels
from data_scripts.reading.loader_options import SynthesisedReports, ValidationSplit
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.reports import synthesise_report
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import DataError, Label, Mask, Record, Skipped, Source

SOURCE = Source(
    name="nih_chestxray14",
    title="NIH ChestX-ray14",
    version="2017, labels of 2020",
    url="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    licence="no restriction; cite Wang et al. 2017 and link the NIH download site",
    access="open",
    expected={"train": 86_524, "test": 25_596},
    traps=(
        "Labels were mined from text by rules; about one in ten is wrong.",
        "The reports are synthesised from the labels: a zero-shot figure on the test list is not zero-shot for a "
        "model pretrained on the training list.",
        "RSNA Pneumonia, SIIM-ACR Pneumothorax and RANZCR CLiP use films of this corpus.",
        "Ages above 120 in the older table are typing errors and are left out.",
        "Boxes were drawn for 8 findings on 880 films; a finding without a box elsewhere is not absent. Their label "
        "`Infiltrate` is Infiltration.",
    ),
)

LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
BOXES = "BBox_List_2017.csv"
#: The box table's own spellings.
BOX_NAMES = {"Infiltrate": "Infiltration"}
#: (height, width) of all films.
SIZE = (1024, 1024)


@dataclass
class Options(SynthesisedReports, ValidationSplit):
    """Arguments of this loader: the validation part is taken from train_val_list.txt."""


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    table_path = next((raw / name for name in TABLES if (raw / name).is_file()), None)
    if table_path is None:
        raise DataError(f"{raw}: the table is missing, expected {' or '.join(TABLES)}")
    table = read_table(table_path)
    require_columns(table, COLUMNS, table_path)
    listed = dict.fromkeys(_read_list(raw / "train_val_list.txt"), "train")
    listed |= dict.fromkeys(_read_list(raw / "test_list.txt"), "test")
    masks, bad_boxes = _read_boxes(raw / BOXES, set(table["Image Index"]))
    yield from bad_boxes
    films = films_below(raw, ".", (".png",))
    entries = ((f"{table_path.name} row {number}", row["Image Index"], row) for number, row in rows_of(table))

    def make_record(row: dict[str, str], path: str) -> Record:
        name = row["Image Index"]
        if name not in listed:
            raise DataError("it is in neither train_val_list.txt nor test_list.txt", "film in no list")
        return _record(row, path, listed[name], masks.get(name, {}), options)

    yield from match_films(entries, films, make_record, table_path.name)
    for name in sorted({*listed} - {*films} - {*table["Image Index"]}):
        yield Skipped(name, f"{name} has no row in {table_path.name}", "film without a row")


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: the official list is missing")
    return path.read_text().split()


def _read_boxes(path: Path, films: set[str]) -> tuple[dict[str, dict[str, Mask]], list[Skipped]]:
    """Masks by film and finding, and the rows that give none.

    The header puts "Bbox [x,y,w,h]" over four columns, so that columns are taken by their position: film, finding,
    left, top, width, height in pixels.
    """
    boxes: dict[str, dict[str, list]] = {}
    skipped = []
    table = read_table(path) if path.is_file() else None
    for number, row in rows_of(table) if table is not None else ():
        film, finding, *box = list(row.values())[:6]
        finding = BOX_NAMES.get(finding, finding)
        try:
            if film not in films or finding not in LABELS:
                raise ValueError(f"the film {film} or the finding {finding!r} is unknown")
            left, top, width, height = map(float, box)
            boxes.setdefault(film, {}).setdefault(finding, []).append([left, top, width, height])
        except ValueError as error:
            skipped.append(Skipped(f"{BOXES} row {number}", str(error), "box cannot be used"))
    return {
        film: {name.replace("_", " "): Mask("boxes", found, SIZE) for name, found in findings.items()}
        for film, findings in boxes.items()
    }, skipped


def _labels(text: str) -> list[Label]:
    if not text.strip():
        # Nobody judged it: that must not become a film without findings.
        raise DataError("no finding is listed, not even No Finding", "unknown finding")
    labels = listed_labels(text.split("|"), [*LABELS, "No Finding"])
    return [replace(label, name=label.name.replace("_", " ")) for label in labels]


def _record(row: dict[str, str], path: str, split: str, masks: dict[str, Mask], options: Options) -> Record:
    record_id = f"{SOURCE.name}/{row['Image Index'].removesuffix('.png')}"
    patient = row["Patient ID"]
    if split == "train":
        split = options.split_training(patient)
    labels = _labels(row["Finding Labels"])
    return Record(
        record_id=record_id,
        source=SOURCE.name,
        patient_id=patient,
        # One film a visit: the file name is patient and follow-up number.
        study_id=record_id.split("/")[1],
        split=split,
        image_path=path,
        findings=synthesise_report(labels, record_id, options.report_seed),
        report_origin="labels",
        labels=labels,
        masks=masks,
        view=normalise_view(row["View Position"]),
        sex=normalise_sex(row["Patient Gender"]),
        age_years=parse_age(row["Patient Age"]),
    )

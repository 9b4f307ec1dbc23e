"""NIH ChestX-ray14: 112,120 frontal films with 14 labels mined from reports that were not released.

Layout (Box and Kaggle downloads): `Data_Entry_2017_v2020.csv` (or the older `Data_Entry_2017.csv`),
`train_val_list.txt`, `test_list.txt`, and the films below `images/` or `images_001/images/` ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.reports import synthesise_report
from data_scripts.schema import DataError, Label, Record, Skipped, Source
from data_scripts.splits import split_by_patient
from data_scripts.tables import read_table, require_columns, rows_of
from data_scripts.views import normalise_view

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


@dataclass
class Options:
    """Arguments of this loader."""

    validation_share: float = field(
        default=0.05, metadata={"help": "Share of the patients of train_val_list.txt held out for validation."}
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the split by patient."})
    report_seed: int = field(default=1, metadata={"help": "Seed of the synthesised reports."})


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    table_path = next((raw / name for name in TABLES if (raw / name).is_file()), None)
    if table_path is None:
        raise DataError(f"{raw}: the table is missing, expected {' or '.join(TABLES)}")
    table = read_table(table_path)
    require_columns(table, COLUMNS, table_path)
    listed = dict.fromkeys(_read_list(raw / "train_val_list.txt"), "train")
    listed |= dict.fromkeys(_read_list(raw / "test_list.txt"), "test")
    paths = {path.name: str(path.relative_to(raw)) for path in raw.glob("images*/**/*.png")}
    for number, row in rows_of(table):
        name, where = row["Image Index"], f"{table_path.name} row {number}"
        if name not in listed:
            yield Skipped(where, f"{name} is in neither train_val_list.txt nor test_list.txt", "film in no list")
        elif name not in paths:
            yield Skipped(where, f"{name} is not among the films below {raw}/images*", "image file missing")
        else:
            try:
                yield _record(row, where, paths[name], listed[name], options)
            except DataError as error:
                yield Skipped(where, str(error), error.kind)
    for name in sorted({*listed, *paths} - set(table["Image Index"])):
        yield Skipped(name, f"{name} has no row in {table_path.name}", "film without a row")


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: the official list is missing")
    return path.read_text().split()


def _labels(text: str, where: str) -> list[Label]:
    found = set(text.split("|"))
    unknown = found - {*LABELS, "No Finding"}
    if unknown:
        raise DataError(
            f"{where}: unknown finding {sorted(unknown)}, expected some of {(*LABELS, 'No Finding')}", "unknown finding"
        )
    names = [*LABELS, "No Finding"]
    return [Label(name.replace("_", " "), int(name in found)) for name in names]


def _age(text: str) -> float | None:
    digits = text.strip("Y ")
    age = float(digits) if digits.isdigit() else None
    return age if age is not None and age <= 120 else None


def _record(row: dict[str, str], where: str, path: str, split: str, options: Options) -> Record:
    record_id = f"{SOURCE.name}/{row['Image Index'].removesuffix('.png')}"
    patient = row["Patient ID"]
    if split == "train":
        split = split_by_patient(patient, options.validation_share, 0.0, options.split_seed)
    labels = _labels(row["Finding Labels"], where)
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
        view=normalise_view(row["View Position"]),
        sex=row["Patient Gender"] if row["Patient Gender"] in ("F", "M") else None,
        age_years=_age(row["Patient Age"]),
    )

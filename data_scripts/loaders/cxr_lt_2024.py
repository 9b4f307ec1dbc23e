"""CXR-LT 2024: rare and unseen findings on the films of MIMIC-CXR-JPG, with labels of training, development and test.

Layout (PhysioNet project `cxr-lt-iccv-workshop-cvamd`, version 2.0.0): `cxr-lt-2024/train_labeled.csv`,
`development_labeled_task1.csv`, `test_labeled_task1.csv`, the same for tasks 2 and 3, with the columns `dicom_id`,
`subject_id`, `study_id`, `ViewPosition`, `fpath` (`files/p10/.../<dicom_id>.jpg`) and one a finding, 1 or 0. The films
are those of MIMIC-CXR-JPG at `--mimic_dir`. Read are the tables of one task, by `--task`:

- `task1`: 40 findings, by rules from the reports;
- `task2`: 26 of them on a few hundred test films that people labelled anew;
- `task3`: five findings that no training film is labelled with (zero-shot), development and test alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from data_scripts.reading.labels import row_labels
from data_scripts.reading.matching import match_films
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_view
from data_scripts.schema import DataError, Record, Skipped, Source, is_file, within

SOURCE = Source(
    name="cxr_lt_2024",
    title="CXR-LT 2024: long-tailed, gold-standard and zero-shot findings of MIMIC-CXR",
    version="2.0.0",
    url="https://physionet.org/content/cxr-lt-iccv-workshop-cvamd/2.0.0/",
    licence="PhysioNet Credentialed Health Data License 1.5.0: not to be passed on",
    access="credentialed",
    traps=(
        "Exposure: all films are of MIMIC-CXR, split anew: development and test hold films of MIMIC's own training "
        "split. A model pretrained on that has seen them and their reports.",
        "Films by split depend on the task and are not checked; of task 1 they are 258,871 for training, 39,293 for "
        "development and 78,946 for the test, which are all films of MIMIC-CXR-JPG.",
        "Labels of tasks 1 and 3 were taken from the reports by rules; a finding that is not mentioned counts as "
        "absent. Those of task 2 were made by people.",
        "Laterals are among the films.",
        "The challenge ranks by the mean average precision over findings.",
    ),
    shares_films_with=("mimic_cxr_jpg",),
)
TEXT_OPTIONAL = True

UNSEEN = ("Bulla", "Cardiomyopathy", "Hilum", "Osteopenia", "Scoliosis")
#: The findings of task 2.
GOLD_STANDARD = (
    *("Atelectasis", "Calcification of the Aorta", "Cardiomegaly", "Consolidation", "Edema", "Emphysema"),
    *("Enlarged Cardiomediastinum", "Fibrosis", "Fracture", "Hernia", "Infiltration", "Lung Lesion", "Lung Opacity"),
    *("Mass", "Normal", "Nodule", "Pleural Effusion", "Pleural Other", "Pleural Thickening", "Pneumomediastinum"),
    *("Pneumonia", "Pneumoperitoneum", "Pneumothorax", "Subcutaneous Emphysema", "Support Devices", "Tortuous Aorta"),
)
#: Those of task 1.
LONG_TAILED = (
    *GOLD_STANDARD,
    *("Adenopathy", "Azygos Lobe", "Clavicle Fracture", "Fissure", "Granuloma", "Hydropneumothorax", "Infarction"),
    *("Kyphosis", "Lobar Atelectasis", "Pulmonary Embolism", "Pulmonary Hypertension", "Rib Fracture"),
    *("Round(ed) Atelectasis", "Tuberculosis"),
)
TASKS = {"task1": LONG_TAILED, "task2": GOLD_STANDARD, "task3": UNSEEN}
COLUMNS = ("dicom_id", "subject_id", "study_id", "ViewPosition", "fpath")
_FOLDER = "cxr-lt-2024"


@dataclass
class Options:
    """Arguments of this loader."""

    task: str = field(default="task1", metadata={"help": "Whose tables are read.", "choices": list(TASKS)})
    mimic_dir: str = field(
        default=".", metadata={"help": "Folder of MIMIC-CXR-JPG that holds files/, below the raw folder."}
    )

    def __post_init__(self):
        if self.task not in TASKS:
            raise DataError(f"task is {self.task!r}, it must be one of {', '.join(TASKS)}", "unknown task")


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    tables = {"validation": f"development_labeled_{options.task}.csv", "test": f"test_labeled_{options.task}.csv"}
    if options.task != "task3":
        tables = {"train": "train_labeled.csv", **tables}
    labels, folder = TASKS[options.task], _find_folder(raw, tables["test"])
    entries, films = [], {}
    for split, name in tables.items():
        table = read_table(folder / name)
        require_columns(table, (*COLUMNS, *labels), folder / name)
        for number, row in rows_of(table):
            path = str(PurePosixPath(options.mimic_dir) / row["fpath"])
            entries.append((f"{name} row {number}", row["dicom_id"], (split, row)))
            if _is_below(raw, path):
                films[row["dicom_id"]] = path
    yield from match_films(entries, films, lambda entry, path: _record(*entry, path, labels), _FOLDER)


def _find_folder(raw: Path, table: str) -> Path:
    """Where the tables are: the raw folder, or up to three folders deeper (PROJECT/VERSION/cxr-lt-2024/)."""
    for pattern in (table, f"{_FOLDER}/{table}", f"*/{_FOLDER}/{table}", f"*/*/{_FOLDER}/{table}"):
        if found := sorted(raw.glob(pattern)):
            return found[0].parent
    raise DataError(f"{raw}: the table {_FOLDER}/{table} is missing", "table missing")


def _is_below(raw: Path, path: str) -> bool:
    try:
        return is_file(within(raw, path))
    except DataError:
        return False


def _record(split: str, row: dict[str, str], path: str, labels: tuple[str, ...]) -> Record:
    return Record(
        record_id=f"{SOURCE.name}/{row['dicom_id']}",
        source=SOURCE.name,
        patient_id=row["subject_id"],
        study_id=row["study_id"],
        split=split,
        image_path=path,
        labels=row_labels(row, labels),
        view=normalise_view(row["ViewPosition"]),
    )

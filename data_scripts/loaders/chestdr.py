"""ChestDR: 4,848 frontal films of the MedFMC benchmark with 19 thoracic findings.

Layout (figshare 22302775): `chestdr_published_19d.csv` in `MedFMC_trainval_annotation/`, films in
`MedFMC_train/chest/images/` and `MedFMC_val/chest/images/`; the table and the films may lie anywhere below the raw
folder. The splits of the challenge are `trainval.txt`, `test_WithoutLabel.txt` (validation) and `test_WithLabel.txt` of
https://github.com/openmedlab/MedFM (`data_backup/MedFMC/chest/`): copy them and name their folder with `--lists`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.reading.labels import row_labels
from data_scripts.reading.loader_options import PatientSplit, SynthesisedReports
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.reports import synthesise_report
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.schema import DataError, Record, Skipped, Source, within

SOURCE = Source(
    name="chestdr",
    title="ChestDR (MedFMC)",
    version="figshare 22302775",
    url="https://doi.org/10.6084/m9.figshare.22302775",
    licence="CC BY 4.0 as far as known: check the download page",
    access="open",
    # Without the lists of the challenge there is no split.
    expected={"train": 4_848},
    traps=(
        "There are no reports: the text is synthesised from the labels, 19 sentences a film, and a film without any "
        "finding gets 19 negations (no label says that a film is normal).",
        "There are no patient ids: every film counts as a patient of its own.",
        "Few-shot lists of the challenge are samples of trainval.txt and are not read.",
    ),
)

TABLE = "chestdr_published_19d.csv"
#: Names of the labels by their columns.
LABELS = {
    "pleural_effusion": "Pleural Effusion",
    "nodule": "Nodule",
    "pneumonia": "Pneumonia",
    "cardiomegaly": "Cardiomegaly",
    "hilar_enlargement": "Hilar Enlargement",
    "fracture_old": "Old Fracture",
    "fibrosis": "Fibrosis",
    "aortic_calcification": "Aortic Calcification",
    "tortuous_aorta": "Tortuous Aorta",
    "thickened_pleura": "Thickened Pleura",
    "TB": "TB (Tuberculosis)",
    "pneumothorax": "Pneumothorax",
    "emphysema": "Emphysema",
    "atelectasis": "Atelectasis",
    "calcification": "Calcification",
    "pulmonary_edema": "Pulmonary Edema",
    "increased_lung_markings": "Increased Lung Markings",
    "elevated_diaphragm": "Elevated Diaphragm",
    "consolidation": "Consolidation",
}
LISTS = {"train": "trainval.txt", "validation": "test_WithoutLabel.txt", "test": "test_WithLabel.txt"}


@dataclass
class Options(SynthesisedReports, PatientSplit):
    """Arguments of this loader."""

    lists: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the challenge's lists, relative to the raw folder; without it the split is by seed."
        },
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    table_path = next(iter(sorted(raw.rglob(TABLE))), raw / TABLE)
    table = read_table(table_path)
    require_columns(table, ("img_id", *LABELS), table_path)
    splits = _read_lists(within(raw, options.lists)) if options.lists else None
    entries = ((f"{TABLE} row {number}", row["img_id"], row) for number, row in rows_of(table))
    films = films_below(raw, ".", (".png",))
    yield from match_films(entries, films, lambda row, path: _record(row, path, splits, options), TABLE)
    for name in sorted(set(splits or ()) - set(table["img_id"])):
        yield Skipped(f"{LISTS[splits[name]]} {name}", f"{name} has no row in {TABLE}", "film without a row")


def _read_lists(folder: Path) -> dict[str, str]:
    """Splits by film; a line is the film's name, then its labels where they were given to the participants.

    Raises:
        DataError: a list is missing, or a film is in two.
    """
    splits: dict[str, str] = {}
    for split, name in LISTS.items():
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: the list is missing, expected are {list(LISTS.values())}")
        for line in filter(None, (folder / name).read_text().splitlines()):
            film = line.split()[0]
            if splits.setdefault(film, split) != split:
                raise DataError(f"{folder / name}: {film} is in {LISTS[splits[film]]} too")
    return splits


def _record(row: dict[str, str], path: str, splits: dict[str, str] | None, options: Options) -> Record:
    name = row["img_id"].removesuffix(".png")
    record_id = f"{SOURCE.name}/{name}"
    labels = row_labels(row, LABELS, "binary")
    if splits is not None and row["img_id"] not in splits:
        raise DataError(f"it is in none of {list(LISTS.values())}", "film in no list")
    return Record(
        record_id=record_id,
        source=SOURCE.name,
        patient_id=name,
        study_id=name,
        split=options.split(name) if splits is None else splits[row["img_id"]],
        image_path=path,
        findings=synthesise_report(labels, record_id, options.report_seed),
        report_origin="labels",
        labels=labels,
    )

"""BRAX: 40,967 films of 19,351 patients of Hospital Israelita Albert Einstein (Brazil), with the labels of CheXpert.

Layout: `master_spreadsheet_update.csv`, whose columns `PngPath` and `DicomPath` name the films below `images/` and
`Anonymized_DICOMs/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.reading.ages import parse_age
from data_scripts.reading.labels import CHEXPERT_LABELS, row_labels
from data_scripts.reading.loader_options import PatientSplit, SynthesisedReports
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.reports import synthesise_report
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import Record, Skipped, Source

SOURCE = Source(
    name="brax",
    title="BRAX, Brazilian labeled chest x-ray dataset",
    version="1.1.0",
    url="https://physionet.org/content/brax/1.1.0/",
    licence="PhysioNet Credentialed Health Data License; no redistribution",
    access="credentialed",
    # There is no official split.
    expected={"train": 40_967},
    traps=(
        "Labels come from the Portuguese reports by rules; the reports were not released, so the text is synthesised "
        "from the labels.",
        "A blank label was not mentioned, and a film whose labels are all blank has no text: it is skipped.",
        "Ages come in steps of five years, the last is `85 or more` (read as 85).",
        "AccessionNumber repeats over patients: the study is patient and accession number.",
        "Less than half of the films are frontal.",
    ),
)

TABLE = "master_spreadsheet_update.csv"
COLUMNS = ("PatientID", "PatientSex", "PatientAge", "AccessionNumber", "ViewPosition", *CHEXPERT_LABELS)
#: Of a kind of file its column, folder and endings.
IMAGE_KINDS = {
    "png": ("PngPath", "images", (".png",)),
    "dicom": ("DicomPath", "Anonymized_DICOMs", (".dcm", ".dicom")),
}


@dataclass
class Options(SynthesisedReports, PatientSplit):
    """Arguments of this loader."""

    image_kind: str = field(
        default="png", metadata={"help": "Which of the two copies of the films to read.", "choices": list(IMAGE_KINDS)}
    )

    def __post_init__(self):
        if self.image_kind not in IMAGE_KINDS:
            raise ValueError(f"image_kind is {self.image_kind!r}, allowed: {tuple(IMAGE_KINDS)}")


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    column, folder, suffixes = IMAGE_KINDS[options.image_kind]
    table = read_table(raw / TABLE)
    require_columns(table, (column, *COLUMNS), raw / TABLE)
    films = films_below(raw, folder, suffixes, lambda path: path.relative_to(raw).as_posix())
    entries = ((f"{TABLE} row {number}", row[column].strip(), row) for number, row in rows_of(table))
    return match_films(entries, films, lambda row, path: _record(row, path, folder, options), TABLE)


def _record(row: dict[str, str], path: str, folder: str, options: Options) -> Record:
    record_id = f"{SOURCE.name}/{path.removeprefix(folder + '/').rpartition('.')[0]}"
    labels = row_labels(row, CHEXPERT_LABELS)
    patient = row["PatientID"]
    return Record(
        record_id=record_id,
        source=SOURCE.name,
        patient_id=patient,
        study_id=f"{patient}/{row['AccessionNumber']}",
        split=options.split(patient),
        image_path=path,
        findings=synthesise_report(labels, record_id, options.report_seed),
        report_origin="labels",
        labels=labels,
        view=normalise_view(row["ViewPosition"]),
        sex=normalise_sex(row["PatientSex"]),
        age_years=parse_age(row["PatientAge"]),
    )

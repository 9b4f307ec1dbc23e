"""MIMIC-CXR-JPG: 377,110 films of 227,835 studies of Beth Israel Deaconess Medical Center, with reports and labels.

Layout: the PhysioNet project `mimic-cxr-jpg` as it is (`mimic-cxr-2.0.0-metadata.csv.gz`, `...-split.csv.gz`,
`...-chexpert.csv.gz`, each also unzipped, and `files/p10/p10000032/s50414267/<dicom_id>.jpg`), and the reports of the
project `mimic-cxr` (`mimic-cxr-reports.zip`) unpacked in the same folder or named by `--reports`: they lie at
`files/p10/p10000032/s50414267.txt`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from data_scripts.reading.labels import CHEXPERT_LABELS, row_labels
from data_scripts.reading.reports import ReportText
from data_scripts.reading.sections import SPECIAL_STUDIES, parse_report, special_conclusion
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_view
from data_scripts.schema import DataError, Label, Record, Skipped, Source

SOURCE = Source(
    name="mimic_cxr_jpg",
    title="MIMIC-CXR-JPG with the reports of MIMIC-CXR",
    version="2.0.0 and 2.1.0 (the films, splits and labels are the same)",
    url="https://physionet.org/content/mimic-cxr-jpg/",
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    access="credentialed",
    expected={"train": 368_960, "validation": 2_991, "test": 5_159},
    traps=(
        "No redistribution, and reports must not be sent to services of third parties: keep what you prepare private.",
        "About one study in twenty has neither findings nor impression: its films have no text and are skipped, as in "
        "arXiv 2602.22843 (362,195 films with text). --last_paragraph gives most of them a text.",
        "54 studies have rules of their own in the official parser, and its table of sections lacks them; here they "
        "are read (--special_studies false leaves them without text).",
        "The report and labels of a study repeat for each of its films.",
        "Blank label: not mentioned. Labels were taken from the reports by rules (CheXpert labeler); 8 studies have "
        "none.",
        "Films were histogram-equalised by the publishers; polarity is right.",
        "Films below files/ that the metadata does not name are not looked for.",
        "CheXmask, MS-CXR and the R2Gen annotations use films of this corpus.",
    ),
)

METADATA, SPLIT, LABELS = ("mimic-cxr-2.0.0-" + name + ".csv" for name in ("metadata", "split", "chexpert"))
#: Where the reports are looked for, first found first.
REPORT_FOLDERS = (".", "mimic-cxr-reports", "reports")
SPLITS = {"train": "train", "validate": "validation", "test": "test"}


@dataclass
class Options(ReportText):
    """Arguments of this loader."""

    reports: str | None = field(
        default=None,
        metadata={"help": f"Folder that holds files/ with the reports; default: one of {REPORT_FOLDERS} of the raw."},
    )
    last_paragraph: bool = field(
        default=False,
        metadata={"help": "Take the last paragraph of a report without findings and impression as its findings."},
    )
    special_studies: bool = field(
        default=True, metadata={"help": "Read the 54 studies for which the official parser has rules of their own."}
    )


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    path, metadata = read_mimic_table(raw, METADATA, ("dicom_id", "subject_id", "study_id", "ViewPosition"))
    split_path, table = read_mimic_table(raw, SPLIT, ("dicom_id", "split"))
    splits = dict(zip(table["dicom_id"], table["split"], strict=True))
    labels, bad_rows = read_labels(raw)
    yield from bad_rows
    folder = report_folder(raw, options.reports, metadata)
    read_study, sections = "", {}
    for number, row in rows_of(metadata):
        dicom_id, study = row["dicom_id"], row["study_id"]
        try:
            split = split_of(splits.pop(dicom_id, ""))
            # Films of a study follow each other: its report is read once.
            if study != read_study:
                sections = study_sections(folder, row["subject_id"], study, options)
                read_study = study
            yield make_record(row, split, sections, labels.get(study, []), options)
        except DataError as error:
            yield Skipped(f"{path.name} row {number}", f"{dicom_id}: {error}", error.kind)
    for dicom_id in splits:
        yield Skipped(dicom_id, f"{dicom_id} of {split_path.name} is not in {path.name}", "film without a row")


def make_record(
    row: dict[str, str], split: str, sections: dict[str, str], labels: list[Label], options: Options
) -> Record:
    """The record of a row of the metadata.

    Args:
        row: dicom_id, subject_id, study_id and ViewPosition.
        sections: "findings" and "impression" of the study, as written; either may be missing.
    """
    subject, study, dicom_id = row["subject_id"], row["study_id"], row["dicom_id"]
    return Record(
        record_id=f"{SOURCE.name}/{dicom_id}",
        source=SOURCE.name,
        patient_id=subject,
        study_id=study,
        split=split,
        image_path=f"{study_folder(subject, study)}/{dicom_id}.jpg",
        findings=options.tidy(sections.get("findings", "")),
        impression=options.tidy(sections.get("impression", "")),
        labels=labels,
        view=normalise_view(row["ViewPosition"]),
    )


def study_folder(subject: str, study: str) -> str:
    """Where the films of a study are; its report is the file of this name with ".txt".

    Raises:
        DataError: an id is no number (and could lead out of the folder).
    """
    if not (subject.isdigit() and study.isdigit()):
        raise DataError(f"subject_id {subject!r} and study_id {study!r} must be numbers", "malformed id")
    return f"files/p{subject[:2]}/p{subject}/s{study}"


def study_sections(folder: Path, subject: str, study: str, options: Options) -> dict[str, str]:
    """ "findings" and "impression" of a study's report by the rules of `data_scripts.reading.sections` and the options.

    Raises:
        DataError: the report file is missing.
    """
    path = folder / f"{study_folder(subject, study)}.txt"
    if not path.is_file():
        raise DataError(f"{path}: the report is missing", "report file missing")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    # As text mode reads it: the character ranges of special studies count a line's end as one.
    text = text.replace("\r\n", "\n")
    if study in SPECIAL_STUDIES:
        return {"impression": special_conclusion(study, text)} if options.special_studies else {}
    sections = parse_report(text)
    if options.last_paragraph and not {"findings", "impression"} & set(sections):
        return {"findings": sections.get("last_paragraph", "")}
    return {name: sections[name] for name in ("findings", "impression") if name in sections}


def split_of(text: str) -> str:
    """The schema's split for the table's; "" is a film that the table lacks.

    Raises:
        DataError: it is none of the official splits.
    """
    if not text:
        raise DataError(f"the film is not in {SPLIT}", "film in no list")
    if text not in SPLITS:
        raise DataError(f"split is {text!r}, allowed: {sorted(SPLITS)}", "unknown split")
    return SPLITS[text]


def read_mimic_table(raw: Path, name: str, columns: tuple[str, ...]) -> tuple[Path, pd.DataFrame]:
    """The path and some columns of a table, zipped or not.

    Raises:
        DataError: the table or a column is missing.
    """
    path = next((raw / candidate for candidate in (name, f"{name}.gz") if (raw / candidate).is_file()), None)
    if path is None:
        raise DataError(f"{raw / name}: the table is missing, and so is {name}.gz", "table missing")
    table = read_table(path)
    require_columns(table, columns, path)
    return path, table[list(columns)]


def read_labels(raw: Path) -> tuple[dict[str, list[Label]], list[Skipped]]:
    """Labels by study, and the rows that hold an unknown value: their studies have no labels.

    Raises:
        DataError: the table or a column is missing.
    """
    path, table = read_mimic_table(raw, LABELS, ("study_id", *CHEXPERT_LABELS))
    labels, skipped = {}, []
    for number, row in rows_of(table):
        try:
            labels[row["study_id"]] = row_labels(row, CHEXPERT_LABELS)
        except DataError as error:
            skipped.append(Skipped(f"{path.name} row {number}", str(error), error.kind))
    return labels, skipped


def report_folder(raw: Path, named: str | None, metadata: pd.DataFrame) -> Path:
    """The folder whose `files/` holds the reports, found by the first studies of the metadata.

    Raises:
        DataError: there is none.
    """
    folders = [raw / named] if named else [raw / name for name in REPORT_FOLDERS]
    first = [row for _, row in rows_of(metadata.head(100)) if row["subject_id"].isdigit() and row["study_id"].isdigit()]
    for folder in folders:
        if any((folder / f"{study_folder(row['subject_id'], row['study_id'])}.txt").is_file() for row in first):
            return folder
    raise DataError(
        f"{folders[0]}: there are no reports (files/p10/p10000032/s50414267.txt ...): unpack mimic-cxr-reports.zip of "
        "the PhysioNet project mimic-cxr there, or name its folder with --reports",
        "reports missing",
    )

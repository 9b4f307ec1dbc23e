"""CASIA-CXR: 11,111 films with French reports, in five folders, each of one finding.

Layout: `CASIA-CXR_Cardiomegaly/`, `CASIA-CXR_Mass/`, `CASIA-CXR_PleuralEffusion/`, `CASIA-CXR_Pneumonia/`,
`CASIA-CXR_Pneumothorax/`; in each `CASIA-CXR_<Finding>_Reports.csv` and the films, at any depth. Reports are French;
with `--language en` they are English: from the columns `Findings_Eng` and `Impression_Eng` of these tables, or of the
table `--translations`, found by `ImageID`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.reading.ages import parse_age
from data_scripts.reading.loader_options import PatientSplit
from data_scripts.reading.matching import films_below, match_films
from data_scripts.reading.reports import ReportText
from data_scripts.reading.tables import read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_sex, normalise_view
from data_scripts.schema import DataError, Label, Record, Skipped, Source

SOURCE = Source(
    name="casia_cxr",
    title="CASIA-CXR",
    version="2023",
    url="https://www.casia-cxr.net",
    licence="by request to the authors; treat as not to be passed on",
    access="registration",
    # There is no official split.
    expected={"train": 11_111},
    traps=(
        "Reports are French; English ones are translations made elsewhere and are not part of the download.",
        "The folder gives one finding as present; what else the film shows is only in the report, so that nothing "
        "counts as absent.",
        "Tables end in placeholder rows without ExamID and have columns without meaning (EndHere, #): both are passed "
        "over. Copies differ in their number of rows.",
        "There are no normal films.",
    ),
)

#: Folders by their finding, and its label.
FINDINGS = {
    "Cardiomegaly": "Cardiomegaly",
    "Mass": "Mass",
    "PleuralEffusion": "Pleural Effusion",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}
COLUMNS = ("ExamID", "ImageID", "PatientID", "ReportID", "PatientAge", "PatientGender", "PositionView")
#: Columns of findings and impression by language.
TEXT_COLUMNS = {"fr": ("Findings", "Impression"), "en": ("Findings_Eng", "Impression_Eng")}
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass
class Options(ReportText, PatientSplit):
    """Arguments of this loader."""

    language: str = field(
        default="fr",
        metadata={"help": "Language of the reports: fr as written, en translated.", "choices": list(TEXT_COLUMNS)},
    )
    translations: str | None = field(
        default=None,
        metadata={
            "help": "Table with ImageID, Findings_Eng and Impression_Eng; without it, en needs them in the tables."
        },
    )

    def __post_init__(self):
        if self.language not in TEXT_COLUMNS:
            raise ValueError(f"language is {self.language!r}, allowed: {tuple(TEXT_COLUMNS)}")
        if self.translations and self.language != "en":
            raise ValueError("translations are English: ask for them with --language en")


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    translated = read_translations(raw / options.translations) if options.translations else None
    folders = [name for name in FINDINGS if (raw / f"CASIA-CXR_{name}").is_dir()]
    if not folders:
        raise DataError(f"{raw}: there is none of the folders CASIA-CXR_<{'|'.join(FINDINGS)}>", "folder missing")
    for name in folders:
        yield from read_folder(raw, name, translated, options)


def read_folder(raw: Path, finding: str, translated: dict | None, options: Options) -> Iterator[Record | Skipped]:
    """The records of one finding's folder; films that its table does not list come as `Skipped`."""
    folder = raw / f"CASIA-CXR_{finding}"
    path = folder / f"CASIA-CXR_{finding}_Reports.csv"
    table = read_table(path)
    require_columns(table, (*COLUMNS, *(() if translated is not None else TEXT_COLUMNS[options.language])), path)
    films = films_below(raw, folder.name, SUFFIXES, key=lambda film: film.stem)
    entries = (
        (f"{path.name} row {number}", film_stem(row["ImageID"]), row)
        for number, row in rows_of(table)
        if row["ExamID"].strip()
    )

    def make(row: dict[str, str], film: str) -> Record:
        return make_record(row, film, finding, report_texts(row, translated, options.language), options)

    yield from match_films(entries, films, make, path.name)


def film_stem(image_id: str) -> str:
    """The name of a film's file without its suffix; ImageID has it with or without."""
    name = image_id.strip().replace("\\", "/").rsplit("/", 1)[-1]
    stem, _, suffix = name.rpartition(".")
    return stem if f".{suffix.lower()}" in SUFFIXES else name


def read_translations(path: Path) -> dict[str, tuple[str, str]]:
    """English findings and impression by film.

    Raises:
        DataError: the table or a column is missing.
    """
    table = read_table(path)
    require_columns(table, ("ImageID", *TEXT_COLUMNS["en"]), path)
    return {
        film_stem(row["ImageID"]): tuple(row[column] for column in TEXT_COLUMNS["en"])
        for _, row in rows_of(table)
        if row["ImageID"].strip()
    }


def report_texts(row: dict[str, str], translated: dict | None, language: str) -> tuple[str, str]:
    """Findings and impression of a row in the language asked for.

    Raises:
        DataError: there is a table of translations, and this film is not in it.
    """
    if translated is None:
        return tuple(row[column] for column in TEXT_COLUMNS[language])
    if film_stem(row["ImageID"]) not in translated:
        raise DataError(f"the table of translations lacks {row['ImageID']!r}", "report without a translation")
    return translated[film_stem(row["ImageID"])]


def make_record(row: dict[str, str], path: str, finding: str, texts: tuple[str, str], options: Options) -> Record:
    """The record of a row: its folder's finding is present, nothing is known of others."""
    return Record(
        record_id=f"{SOURCE.name}/{finding}/{film_stem(row['ImageID'])}",
        source=SOURCE.name,
        patient_id=row["PatientID"].strip() or row["ExamID"].strip(),
        study_id=row["ReportID"].strip() or row["ExamID"].strip(),
        split=options.split(row["PatientID"].strip() or row["ExamID"].strip()),
        image_path=path,
        findings=options.tidy(texts[0]),
        impression=options.tidy(texts[1]),
        report_origin="radiologist" if options.language == "fr" else "translation",
        language=options.language,
        labels=[Label(FINDINGS[finding], 1)],
        view=normalise_view(row["PositionView"]),
        sex=normalise_sex(row["PatientGender"]),
        age_years=parse_age(row["PatientAge"]),
    )

"""One's own films: a table (CSV, TSV, JSON lines or Parquet) with a column for each thing, and image files.

Name the columns by arguments; only the image column and at least one text column are needed. Nothing leaves the
machine, and nothing but the named columns is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_scripts.schema import REPORT_ORIGINS, SPLITS, DataError, Label, Record, Skipped, Source
from data_scripts.splits import split_by_patient
from data_scripts.tables import read_table, require_columns, rows_of
from data_scripts.views import normalise_view

SOURCE = Source(
    name="folder",
    title="Own files",
    version="-",
    url="-",
    licence="as the owner says",
    access="own",
    traps=("Without a patient column every image counts as a patient of its own, so patients may cross splits.",),
)

_SPLIT_NAMES = {
    **{split: split for split in SPLITS},
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
}
_LABEL_VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}
_COLUMN_ARGUMENTS = ("image", "findings", "impression", "report", "labels", "patient", "study", "view", "split")
_COLUMN_ARGUMENTS += ("sex", "age", "licence", "id")


@dataclass
class Options:
    """Arguments of this loader: which column holds what."""

    table: str = field(default="metadata.csv", metadata={"help": "The table, relative to the raw folder."})
    image_root: str = field(default=".", metadata={"help": "Folder that the image column is relative to."})
    source_name: str = field(default="folder", metadata={"help": "Name of this corpus in ids and reports."})
    image_column: str = field(default="image", metadata={"help": "Image file name or path."})
    report_column: str | None = field(default=None, metadata={"help": "Whole report as one text."})
    findings_column: str | None = field(default=None, metadata={"help": "Findings section."})
    impression_column: str | None = field(default=None, metadata={"help": "Impression section."})
    label_columns: list[str] = field(
        default_factory=list, metadata={"help": "Columns with 1, 0, -1 or blank, each named after its finding."}
    )
    labels_column: str | None = field(
        default=None, metadata={"help": "One column that lists the findings present; the others count as absent."}
    )
    label_separator: str = field(default="|", metadata={"help": "Separator in labels_column."})
    unlabelled_values: list[str] = field(
        default_factory=list, metadata={"help": "Values of labels_column that mean: nobody looked (e.g. todo)."}
    )
    id_column: str | None = field(default=None, metadata={"help": "Unique id; default: the image path."})
    patient_column: str | None = field(default=None, metadata={"help": "Patient; needed for splits by patient."})
    study_column: str | None = field(default=None, metadata={"help": "Study; default: the image alone."})
    view_column: str | None = field(default=None, metadata={"help": "Projection (PA, AP, lateral ...)."})
    split_column: str | None = field(default=None, metadata={"help": "train, validation (val, valid) or test."})
    sex_column: str | None = field(default=None, metadata={"help": "F, M or O."})
    age_column: str | None = field(default=None, metadata={"help": "Age in years."})
    licence_column: str | None = field(default=None, metadata={"help": "Licence of the image."})
    report_origin: str = field(
        default="radiologist", metadata={"help": "Where the text comes from.", "choices": list(REPORT_ORIGINS)}
    )
    language: str = field(default="en", metadata={"help": "Language of the text."})
    validation_share: float = field(default=0.1, metadata={"help": "Share of the patients; without split_column."})
    test_share: float = field(default=0.1, metadata={"help": "Share of the patients; without split_column."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the split by patient."})

    def __post_init__(self):
        if not self.label_separator:
            raise ValueError("label_separator is empty: give the character between two findings")

    def columns(self) -> dict[str, str]:
        """The named columns by what they hold."""
        named = {name: getattr(self, f"{name}_column") for name in _COLUMN_ARGUMENTS}
        return {name: column for name, column in named.items() if column is not None}


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    path = raw / options.table
    table = read_table(path)
    columns = options.columns()
    if not {"report", "findings", "impression"} & set(columns):
        raise DataError(
            f"{path}: no text column is named; give --report_column, or --findings_column and --impression_column. "
            f"The table has {list(table.columns)}"
        )
    require_columns(table, [*columns.values(), *options.label_columns], path)
    vocabulary = _vocabulary(table, options)
    for number, row in rows_of(table):
        where = f"{options.table} row {number}"
        values = {name: row[column].strip() for name, column in columns.items()}
        if not values["image"]:
            yield Skipped(where, f"column {options.image_column!r} is blank", "no image named")
            continue
        try:
            yield _record(values, _labels(row, vocabulary, options), options)
        except DataError as error:
            yield Skipped(where, str(error), error.kind)


def _vocabulary(table, options: Options) -> list[str]:
    """All findings that `labels_column` ever lists, sorted."""
    if options.labels_column is None:
        return []
    texts = [text for text in table[options.labels_column].unique() if text.strip() not in options.unlabelled_values]
    return sorted({part.strip() for text in texts for part in text.split(options.label_separator)} - {""})


def _labels(row: dict[str, str], vocabulary: list[str], options: Options) -> list[Label]:
    labels = []
    for name in options.label_columns:
        value = row[name].strip()
        if value and value not in _LABEL_VALUES:
            raise DataError(f"label {name!r} is {value!r}: allowed are 1 (present), 0 (absent), -1 (uncertain), blank")
        if value:
            labels.append(Label(name, _LABEL_VALUES[value]))
    listed = row[options.labels_column].strip() if options.labels_column else ""
    if listed and listed not in options.unlabelled_values:
        present = {part.strip() for part in listed.split(options.label_separator)}
        labels += [Label(name, int(name in present)) for name in vocabulary]
    return labels


def _split(text: str | None, patient: str, options: Options) -> str:
    if text is None:
        return split_by_patient(patient, options.validation_share, options.test_share, options.split_seed)
    if text.lower() not in _SPLIT_NAMES:
        raise DataError(f"split is {text!r}: allowed are {sorted(_SPLIT_NAMES)}")
    return _SPLIT_NAMES[text.lower()]


def _age(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError as error:
        raise DataError(f"age is {text!r}: a number of years is expected") from error


def _record(values: dict[str, str], labels: list[Label], options: Options) -> Record:
    key = values.get("id") or values["image"]
    patient = values.get("patient") or key
    sex = values.get("sex", "").upper()[:1]
    return Record(
        record_id=f"{options.source_name}/{key}",
        source=options.source_name,
        patient_id=patient,
        study_id=values.get("study") or key,
        split=_split(values.get("split"), patient, options),
        image_path=str(Path(options.image_root) / values["image"]),
        findings=values.get("findings") or values.get("report", ""),
        impression=values.get("impression", ""),
        report_origin=options.report_origin,
        language=options.language,
        labels=labels,
        view=normalise_view(values.get("view")),
        sex=sex if sex in ("F", "M", "O") else None,
        age_years=_age(values.get("age", "")),
        licence=values.get("licence") or None,
    )

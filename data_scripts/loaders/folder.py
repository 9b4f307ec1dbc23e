"""One's own films: DICOM, PNG or JPEG in a folder, with a table, with report text files, or with both.

- A table (CSV, TSV, JSON lines or Parquet) with a column for each thing: `--table films.csv --image_column file`. Or
  one that knows no files: `--match_column accession` finds films by accession number (DICOM) or file name.
- Text files: `--reports DIR` takes `DIR/**/NAME.txt`, NAME being the film's accession number or file name.
- Neither `--table` nor a `metadata.csv`: every image below `--image_root` is a record.
- `--mapping own.yaml` holds any of these arguments (`image_column: file`), those on the command line come first.

Nothing leaves the machine. Of a table only the named columns are copied. Of a DICOM header the view is (and age and sex
on request); patient, study and accession number only link and match films: they are written as numbers, or as salted
hashes (`--hash_ids SALT`), which then also replace the ids of the table and the file names.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import yaml
from PIL import Image

from data_scripts.dicom import FRAMES
from data_scripts.images import open_image
from data_scripts.own_files import (
    ByName,
    Film,
    Names,
    ReportFiles,
    age_and_sex,
    check_chest,
    find_films,
    read_film,
    without_suffix,
)
from data_scripts.schema import REPORT_ORIGINS, SPLITS, VIEWS, DataError, Label, Mask, Record, Skipped, Source, within
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
    traps=(
        "Without a patient column, pattern or DICOM header every image counts as a patient of its own, so patients may "
        "cross splits.",
        "Record ids are file names unless --hash_ids is given; `skipped.jsonl` and `.prepare/` always name files: keep "
        "them in the house.",
        "Text burned into the pixels of a film is not removed.",
    ),
)

_SPLIT_NAMES = {
    **{split: split for split in SPLITS},
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
}
_LABEL_VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}
_COLUMN_ARGUMENTS = ("findings", "impression", "report", "labels", "patient", "study", "view", "split")
_COLUMN_ARGUMENTS += ("sex", "age", "licence", "id")
_SHORTEST_SALT = 8


@dataclass
class Options:
    """Arguments of this loader: where films and texts are, and which column holds what."""

    #: Never written down, see `data_scripts.listing.public_options`.
    SECRET: ClassVar[tuple[str, ...]] = ("hash_ids",)

    mapping: str | None = field(default=None, metadata={"help": "YAML file with any of these arguments."})
    table: str | None = field(
        default=None, metadata={"help": "The table, relative to the raw folder; default: metadata.csv if it is there."}
    )
    image_root: str = field(default=".", metadata={"help": "Folder of the images, which the image column starts from."})
    reports: str | None = field(
        default=None, metadata={"help": "Folder of texts (NAME.txt), named by accession number or image file."}
    )
    source_name: str = field(default="folder", metadata={"help": "Name of this corpus in ids and reports."})
    image_column: str = field(default="image", metadata={"help": "Image file name or path."})
    match_column: str | None = field(
        default=None, metadata={"help": "Instead of image_column: accession number or image file name, no suffix."}
    )
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
    mask_columns: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Columns with a mask file (relative to the raw folder) or blank, each named after its structure."
        },
    )
    id_column: str | None = field(default=None, metadata={"help": "Unique id; default: the image path."})
    patient_column: str | None = field(default=None, metadata={"help": "Patient; needed for splits by patient."})
    patient_pattern: str | None = field(
        default=None,
        metadata={"help": "Regular expression whose first group, in the image path, is the patient: '^(P[0-9]+)/'."},
    )
    study_column: str | None = field(default=None, metadata={"help": "Study; default: the image alone."})
    view_column: str | None = field(default=None, metadata={"help": "Projection (PA, AP, lateral ...)."})
    split_column: str | None = field(default=None, metadata={"help": "train, validation (val, valid) or test."})
    sex_column: str | None = field(default=None, metadata={"help": "F, M or O."})
    age_column: str | None = field(default=None, metadata={"help": "Age in years."})
    licence_column: str | None = field(default=None, metadata={"help": "Licence of the image."})
    views: list[str] = field(
        default_factory=list, metadata={"help": "Keep these views only, e.g. PA AP UNKNOWN.", "choices": list(VIEWS)}
    )
    modalities: list[str] = field(
        default_factory=lambda: ["CR", "DX", "DR", "RG", "XR"], metadata={"help": "DICOM: accepted modalities."}
    )
    any_body_part: bool = field(default=False, metadata={"help": "DICOM: accept body parts other than the chest."})
    multi_frame: str | None = field(
        default=None, metadata={"help": "DICOM: which of several frames; default: refuse.", "choices": list(FRAMES)}
    )
    dicom_age_sex: bool = field(
        default=False, metadata={"help": "DICOM: also copy sex and age in years (above 89 as 90)."}
    )
    hash_ids: str | None = field(
        default=None,
        metadata={
            "help": "Salt (8 characters or more): patient, study and record ids become salted hashes. Not stored."
        },
    )
    report_origin: str = field(
        default="radiologist", metadata={"help": "Where the text comes from.", "choices": list(REPORT_ORIGINS)}
    )
    language: str = field(default="en", metadata={"help": "Language of the text."})
    validation_share: float = field(default=0.1, metadata={"help": "Share of the patients; without split_column."})
    test_share: float = field(default=0.1, metadata={"help": "Share of the patients; without split_column."})
    split_seed: int = field(default=0, metadata={"help": "Seed of the split by patient."})

    def __post_init__(self):
        if self.mapping:
            self._read_mapping(Path(self.mapping))
        if not self.label_separator:
            raise ValueError("label_separator is empty: give the character between two findings")
        if self.hash_ids is not None and len(self.hash_ids) < _SHORTEST_SALT:
            raise ValueError(f"hash_ids: a salt of less than {_SHORTEST_SALT} characters can be guessed")
        for name, allowed in (("multi_frame", (None, *FRAMES)), ("report_origin", REPORT_ORIGINS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, allowed: {allowed}")
        if set(self.views) - set(VIEWS):
            raise ValueError(f"views are {self.views}, allowed: {VIEWS}")
        if self.patient_pattern and re.compile(self.patient_pattern).groups < 1:
            raise ValueError(f"patient_pattern {self.patient_pattern!r} has no group: put the patient in brackets")

    def _read_mapping(self, path: Path) -> None:
        """Set what the file names and the command line left at its default."""
        if not path.is_file():
            raise ValueError(f"mapping {path}: there is no such file")
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except yaml.YAMLError as error:
            raise ValueError(f"mapping {path}: not YAML ({error})") from error
        known = {option.name: option for option in dataclasses.fields(self)}
        if not isinstance(given, dict):
            raise ValueError(f"mapping {path}: lines of the form 'image_column: file' are expected")
        for name, value in given.items():
            if name not in known or name == "mapping":
                closest = difflib.get_close_matches(str(name), list(known), n=1)
                hint = f", the closest is {closest[0]!r}" if closest else ""
                raise ValueError(f"mapping {path}: there is no argument {name!r}{hint}")
            option = known[name]
            missing = option.default_factory is dataclasses.MISSING
            default = option.default if missing else option.default_factory()
            _check_kind(path, name, value, default)
            if getattr(self, name) == default:
                setattr(self, name, value)

    def columns(self) -> dict[str, str]:
        """The named columns by what they hold."""
        named = {name: getattr(self, f"{name}_column") for name in _COLUMN_ARGUMENTS}
        return {name: column for name, column in named.items() if column is not None}


def _check_kind(path: Path, name: str, value, default) -> None:
    if isinstance(default, list):
        fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
    elif isinstance(default, float):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    else:
        fits = type(value) is (str if default is None else type(default))
    if not fits:
        kind = "text" if default is None else type(default).__name__
        raise ValueError(f"mapping {path}: {name} is {value!r}, expected is {kind} (quote what must be text)")


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    """Records of the table's rows, or of all images; then what was left over: films, reports."""
    reports = ReportFiles(raw, options.reports) if options.reports else None
    names = Names(options.hash_ids)
    table = options.table or ("metadata.csv" if (raw / "metadata.csv").is_file() else None)
    if table is None:
        if reports is None:
            raise DataError(
                f"{raw}: nothing tells the reports; name a table (--table) or a folder of texts (--reports)"
            )
        for one in find_films(raw, options.image_root):
            yield one if isinstance(one, Skipped) else _read_one(raw, one, {}, [], {}, one, reports, names, options)
    else:
        yield from _read_table(raw, table, reports, names, options)
    if reports is not None:
        yield from reports.left_over()


def read_image(raw: Path, record: Record, options: Options) -> tuple[Image.Image, dict[str, Image.Image]]:
    """The film, and no masks beside those of the record."""
    return open_image(within(raw, record.image_path), options.multi_frame), {}


def _read_table(
    raw: Path, name: str, reports: ReportFiles | None, names: Names, options: Options
) -> Iterator[Record | Skipped]:
    path = raw / name
    table = read_table(path)
    columns = options.columns()
    if not {"report", "findings", "impression"} & set(columns) and reports is None:
        raise DataError(
            f"{path}: no text column is named; give --report_column, or --findings_column and --impression_column, or "
            f"a folder of texts (--reports). The table has {list(table.columns)}"
        )
    key_column = options.match_column or options.image_column
    require_columns(table, [key_column, *columns.values(), *options.label_columns, *options.mask_columns], path)
    vocabulary = _vocabulary(table, options)
    films, unknown = [], []
    if (raw / options.image_root).is_dir():
        found = list(find_films(raw, options.image_root))
        films, unknown = ([one for one in found if isinstance(one, kind)] for kind in (str, Skipped))
    index = _Index(raw, films, options) if options.match_column else None
    used = set()
    for number, row in rows_of(table):
        where, key = f"{name} row {number}", row[key_column].strip()
        if not key:
            yield Skipped(where, f"column {key_column!r} is blank", "no image named")
            continue
        values = {held: row[column].strip() for held, column in columns.items()}
        try:
            matches = index.find(key) if index else [_normal(f"{options.image_root}/{key}")]
            if not matches:
                raise DataError(f"no film has {key!r} as accession number or file name", "row without a film")
            used |= set(matches)
            labels = _labels(row, vocabulary, options)
        except DataError as error:
            yield Skipped(where, str(error), error.kind)
            continue
        masks = {column: Mask("file", row[column].strip()) for column in options.mask_columns if row[column].strip()}
        for match in matches:
            yield _read_one(raw, match, values, labels, masks, where, reports, names, options)
    masked = {
        _normal(row[column]) for _, row in rows_of(table) for column in options.mask_columns if row[column].strip()
    }
    for film in films:
        if film not in used and film not in masked:
            yield Skipped(film, f"{name} has no row for it (see also --image_root)", "film without a row")
    yield from unknown


def _normal(path: str) -> str:
    """As `find_films` writes paths; exports of Windows programs have backslashes."""
    return str(Path(path.strip().replace("\\", "/")))


class _Index:
    """Films by accession number, which several films of a study share, and by file name."""

    def __init__(self, raw: Path, paths: list[str], options: Options):
        self.by_accession: dict[str, list[str]] = {}
        for path in paths:
            try:
                accession = read_film(raw, path).get("AccessionNumber")
            except DataError:
                # A damaged header: the film can still be found by its name, and is named then.
                continue
            if accession:
                self.by_accession.setdefault(accession, []).append(path)
        self.by_name = ByName([(_key(path, options), path) for path in paths])

    def find(self, key: str) -> list[str]:
        if key in self.by_accession:
            return self.by_accession[key]
        found = self.by_name.find(without_suffix(_normal(key)))
        return [] if found is None else [found]


def _key(path: str, options: Options) -> str:
    """The path below the folder of images, without suffix."""
    return without_suffix(str(Path(path).relative_to(_normal(options.image_root))))


def _read_one(
    raw: Path,
    path: str,
    values: dict[str, str],
    labels: list[Label],
    masks: dict[str, Mask],
    where: str,
    reports: ReportFiles | None,
    names: Names,
    options: Options,
) -> Record | Skipped:
    """The record of one film, or why there is none."""
    try:
        within(raw, path)
        film = read_film(raw, path, options.dicom_age_sex)
        # Asked for first: the report of a film that is refused has its film.
        text = reports.text_of(film, _key(path, options)) if reports else ""
        check_chest(film, options.modalities, options.any_body_part, options.multi_frame)
        record = _record(film, values, labels, masks, text, names, options)
    except DataError as error:
        return Skipped(where, str(error), error.kind)
    if options.views and record.view not in options.views:
        return Skipped(where, f"view is {record.view}, asked for are {options.views}", "other view", on_request=True)
    return record


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
            raise DataError(
                f"label {name!r} is {value!r}: allowed are 1 (present), 0 (absent), -1 (uncertain), blank",
                "unknown label value",
            )
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
        raise DataError(f"split is {text!r}: allowed are {sorted(_SPLIT_NAMES)}", "unknown split")
    return _SPLIT_NAMES[text.lower()]


def _age(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError as error:
        raise DataError(f"age is {text!r}: a number of years is expected", "age not readable") from error


def _ids(film: Film, values: dict[str, str], names: Names, options: Options) -> tuple[str, str, str]:
    """Key of the record, patient and study: from the table, the pattern, the header; else the image is its own."""
    key = values.get("id") or str(Path(film.path).relative_to(_normal(options.image_root)))
    patient = study = names.of_table("film", key)
    if values.get("patient"):
        patient = names.of_table("patient", values["patient"])
    elif options.patient_pattern:
        found = re.search(options.patient_pattern, film.path)
        if not found:
            raise DataError(f"patient_pattern {options.patient_pattern!r} is not in {film.path!r}", "patient not found")
        patient = names.of_table("patient", found[1])
    elif film.get("PatientID"):
        patient = names.of_header("patient", film.get("PatientID"))
    if values.get("study"):
        study = names.of_table("study", values["study"])
    elif film.get("StudyInstanceUID"):
        study = names.of_header("study", film.get("StudyInstanceUID"))
    return names.of_table("film", key), patient, study


def _record(
    film: Film,
    values: dict[str, str],
    labels: list[Label],
    masks: dict[str, Mask],
    text: str,
    names: Names,
    options: Options,
) -> Record:
    key, patient, study = _ids(film, values, names, options)
    header_age, header_sex = age_and_sex(film)
    sex = (values.get("sex") or header_sex).upper()[:1]
    findings = values.get("findings") or values.get("report", "")
    if not findings and not values.get("impression"):
        findings = text
    return Record(
        record_id=f"{options.source_name}/{key}",
        source=options.source_name,
        patient_id=patient,
        study_id=study,
        split=_split(values.get("split"), patient, options),
        image_path=film.path,
        findings=findings,
        impression=values.get("impression", ""),
        report_origin=options.report_origin,
        language=options.language,
        labels=labels,
        masks=masks,
        view=normalise_view(values.get("view") or film.get("ViewPosition")),
        sex=sex if sex in ("F", "M", "O") else None,
        age_years=_age(values.get("age") or header_age),
        licence=values.get("licence") or None,
    )

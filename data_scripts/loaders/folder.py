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
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import pandas as pd
from PIL import Image

from data_scripts.films.dicom import FRAMES, read_header
from data_scripts.films.images import open_image
from data_scripts.reading.ages import require_age
from data_scripts.reading.blanks import cell
from data_scripts.reading.encodings import check_encoding
from data_scripts.reading.identities import (
    HEADER_IDS,
    HEADER_NAMES,
    HEADER_PHRASES,
    Identity,
    identity_of,
    without_identity,
)
from data_scripts.reading.markup import plain_text
from data_scripts.reading.own_files import (
    Film,
    Headers,
    check_chest,
    check_intent,
    digest_of,
    find_films,
    without_suffix,
)
from data_scripts.reading.own_ids import Names, Owner, Owners
from data_scripts.reading.plain_reports import parse_plain_report
from data_scripts.reading.report_files import Accessions, ByName, ReportFiles
from data_scripts.reading.splits import split_by_patient
from data_scripts.reading.tables import mend_ids, read_table, require_columns, rows_of
from data_scripts.reading.views import normalise_sex, normalise_view, view_of_header
from data_scripts.schema import (
    REPORT_ORIGINS,
    SPLITS,
    VIEWS,
    DataError,
    Label,
    Mask,
    Record,
    Skipped,
    Source,
    is_file,
    within,
)

SOURCE = Source(
    name="folder",
    title="Own files",
    version="-",
    url="-",
    licence="as the owner says",
    access="own",
    traps=(
        "Without a patient column, pattern or DICOM header every study, or image, counts as a patient of its own, so "
        "patients may cross splits.",
        "Record ids are file names (numbers for DICOM); `skipped.jsonl` and `.prepare/` name files: keep them in the "
        "house. With --hash_ids none of them does.",
        "Text burned into the pixels of a film is not removed.",
        "With --hash_ids, report text has ___ for names, ids, birth dates and institutions that header and table know, "
        "and for dates, names after a title and numbers after words such as MRN; names that nothing tells stay.",
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
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")
#: Higher ages are rare enough to tell who it is, so they become this one (45 CFR 164.514(b)(2)(i)(C)).
OLDEST = 90


@dataclass
class Options:
    """Arguments of this loader: where films and texts are, and which column holds what."""

    #: Never written down, see `data_scripts.prepare.listing.public_options`.
    SECRET: ClassVar[tuple[str, ...]] = ("hash_ids",)
    #: Set by `prepare --allow_empty_reports`: films need no text.
    text_optional: ClassVar[bool] = False

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
    parse_sections: bool = field(
        default=True,
        metadata={"help": "Of whole reports take findings and impression alone, where they have such headers."},
    )
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
    mask_values: list[str] = field(
        default_factory=list,
        metadata={"help": "Label maps: the values of a mask column that are inside, as lung=1,2 heart=3."},
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
    age_column: str | None = field(
        default=None, metadata={"help": "Age in years (above 89 as 90 with hash_ids or dicom_age_sex)."}
    )
    licence_column: str | None = field(default=None, metadata={"help": "Licence of the image."})
    views: list[str] = field(
        default_factory=list, metadata={"help": "Keep these views only, e.g. PA AP UNKNOWN.", "choices": list(VIEWS)}
    )
    modalities: list[str] = field(
        default_factory=lambda: ["CR", "DX", "DR", "RG", "XR"], metadata={"help": "DICOM: accepted modalities."}
    )
    any_body_part: bool = field(default=False, metadata={"help": "DICOM: accept body parts other than the chest."})
    for_processing: bool = field(
        default=False, metadata={"help": "DICOM: also take raw detector data (PresentationIntentType FOR PROCESSING)."}
    )
    burned_in: bool = field(
        default=False, metadata={"help": "DICOM: also take films whose BurnedInAnnotation is YES (text in the pixels)."}
    )
    multi_frame: str | None = field(
        default=None, metadata={"help": "DICOM: which of several frames; default: refuse.", "choices": list(FRAMES)}
    )
    dicom_age_sex: bool = field(
        default=False, metadata={"help": "DICOM: also copy sex and age in years (above 89 as 90)."}
    )
    keep_names: bool = field(
        default=False, metadata={"help": "DICOM: record ids are file names; default: numbers, as names hold ids."}
    )
    allow_crossing_patients: bool = field(
        default=False, metadata={"help": "Accept a split_column that has films of a patient in several splits."}
    )
    keep_patient_ids: bool = field(
        default=False,
        metadata={"help": "Take an id that most films have, or such as ANONYMOUS, for one patient; default: unknown."},
    )
    encoding: str | None = field(
        default=None,
        metadata={"help": "Encoding of table and texts (gbk, cp1251 ...); default: utf-8, utf-16 or else cp1252."},
    )
    identity_columns: list[str] = field(
        default_factory=list,
        metadata={
            "help": "With hash_ids: columns with names or ids that are searched for in the report text (besides those "
            "whose name says so, such as patient_name or mrn)."
        },
    )
    hash_ids: str | None = field(
        default=None,
        metadata={
            "help": "Salt (8 characters or more): patient, study and record ids become salted hashes, and "
            "what header and table know of the patient is removed from report text. Not stored. The lists of raw files "
            "are deleted at the end."
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
        #: What the user should know of the whole corpus; said, not written down.
        self.notes: list[str] = []
        check_encoding(self.encoding)
        if not self.label_separator:
            raise ValueError("label_separator is empty: give the character between two findings")
        if self.hash_ids is not None and len(self.hash_ids) < _SHORTEST_SALT:
            raise ValueError(f"hash_ids: a salt of less than {_SHORTEST_SALT} characters can be guessed")
        for name, allowed in (("multi_frame", (None, *FRAMES)), ("report_origin", REPORT_ORIGINS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, allowed: {allowed}")
        if set(self.views) - set(VIEWS):
            raise ValueError(f"views are {self.views}, allowed: {VIEWS}")
        if set(self.values_inside()) - set(self.mask_columns):
            raise ValueError(f"mask_values names {sorted(self.values_inside())}, mask_columns are {self.mask_columns}")
        if self.hash_ids and self.keep_names:
            raise ValueError("hash_ids hides the names that keep_names keeps: give one of them")
        try:
            groups = re.compile(self.patient_pattern or "()").groups
        except re.error as error:
            raise ValueError(f"patient_pattern {self.patient_pattern!r} is no regular expression ({error})") from error
        if groups < 1:
            raise ValueError(f"patient_pattern {self.patient_pattern!r} has no group: put the patient in brackets")

    def conceal(self, skipped: Skipped) -> Skipped:
        """What may be written of it where ids are hashed: names of files hold them, and messages name files."""
        if not self.hash_ids:
            return skipped
        table = re.escape(self.table or "metadata.csv")
        names_none = re.fullmatch(rf"{table} row \d+|{re.escape(self.source_name)}/[0-9a-f]{{16}}", skipped.key)
        key = skipped.key if names_none else Names(self.hash_ids).of_table("file", skipped.key)
        return dataclasses.replace(skipped, key=key, reason=skipped.kind)

    @property
    def films_alone(self) -> bool:
        """Whether neither texts nor labels nor masks are named."""
        held = {"report", "findings", "impression", "labels"} & set(self.columns())
        return not (held or self.label_columns or self.mask_columns or self.reports)

    def values_inside(self) -> dict[str, tuple[int, ...]]:
        """The values of a label map that are inside, by mask column."""
        inside = {}
        for given in self.mask_values:
            name, _, values = given.rpartition("=")
            try:
                inside[name] = tuple(int(value) for value in values.split(","))
            except ValueError as error:
                raise ValueError(f"mask_values: {given!r} is not like lung=1,2") from error
        return inside

    def columns(self) -> dict[str, str]:
        """The named columns by what they hold."""
        named = {name: getattr(self, f"{name}_column") for name in _COLUMN_ARGUMENTS}
        return {name: column for name, column in named.items() if column is not None}


def read_records(raw: Path, options: Options) -> Iterator[Record | Skipped]:
    """Records of the table's rows, or of all images; then what was left over: films, reports."""
    name = options.table or ("metadata.csv" if (raw / "metadata.csv").is_file() else None)
    if name is None and options.reports is None and not options.text_optional:
        raise DataError(f"{raw}: nothing tells the reports; name a table (--table) or a folder of texts (--reports)")
    table = None if name is None else _open_table(raw / name, options)
    found = [] if name and not (raw / options.image_root).is_dir() else list(find_films(raw, options.image_root))
    masks = set() if table is None else _mask_paths(table, options)
    films = [one for one in found if isinstance(one, str) and one not in masks]
    corpus = _Corpus(raw, films, options)
    if table is None:
        corpus.settle(_Row(film, {}, [film]) for film in films)
        for film in films:
            yield _read_one(corpus, film, {}, [], {}, film, options, {})
    else:
        yield from _read_table(corpus, name, table, options)
    # Masks may be of kinds that films are not: GIF.
    yield from (one for one in found if isinstance(one, Skipped) and one.key not in masks)
    if corpus.reports is not None:
        yield from corpus.reports.left_over()


class _Row(NamedTuple):
    """A row of the table (or a film without one): where, the named columns, the films it is of."""

    where: str
    values: dict[str, str]
    films: list[str]


class _Corpus:
    """The films with headers, reports, accession numbers, and whose they are."""

    def __init__(self, raw: Path, films: list[str], options: Options):
        self.raw, self.films, self.options = raw, films, options
        self.headers = Headers(raw, options.dicom_age_sex)
        needs_accessions = options.reports is not None or options.match_column is not None
        self.accessions = Accessions(self.headers.known(films) if needs_accessions else ())
        keys = [_key(film, options) for film in films]
        self.reports = (
            ReportFiles(raw, options.reports, keys, self.accessions, options.encoding) if options.reports else None
        )
        self.names = Names(options.hash_ids, digest_of(raw, films))

    def settle(self, rows: Iterable[_Row]) -> None:
        """Look at the ids of all films before the first is given."""
        pairs = ((film, row.values) for row in rows for path in row.films for film in self.headers.known([path]))
        self.owners = Owners((_owner(*pair, self.options) for pair in pairs), self.options.keep_patient_ids)
        self.options.notes[:] = self.owners.notes


def read_image(raw: Path, record: Record, options: Options) -> tuple[Image.Image, dict[str, Image.Image]]:
    """The film, and no masks beside those of the record."""
    return open_image(within(raw, record.image_path), options.multi_frame), {}


def _open_table(path: Path, options: Options) -> pd.DataFrame:
    table = read_table(path, options.encoding, allow_short_rows=False)
    columns = options.columns()
    has_text = bool({"report", "findings", "impression"} & set(columns)) or options.reports is not None
    if not has_text and not options.text_optional:
        raise DataError(
            f"{path}: no text column is named; give --report_column, or --findings_column and --impression_column, or "
            f"a folder of texts (--reports), or --allow_empty_reports. The table has {list(table.columns)}"
        )
    key_column = options.match_column or options.image_column
    require_columns(
        table,
        [key_column, *columns.values(), *options.label_columns, *options.mask_columns, *options.identity_columns],
        path,
    )
    ids = [columns[held] for held in ("patient", "study", "id") if held in columns]
    mend_ids(table, ids + ([options.match_column] if options.match_column else []), path)
    return table


def _mask_paths(table: pd.DataFrame, options: Options) -> set[str]:
    return {_normal(path) for column in options.mask_columns for path in table[column] if cell(path)}


def _read_table(corpus: _Corpus, name: str, table: pd.DataFrame, options: Options) -> Iterator[Record | Skipped]:
    vocabulary, inside = _vocabulary(table, options), options.values_inside()
    rows, used = [], set()
    for row, found, films in _match_rows(corpus, name, table, options):
        used |= set(films)
        rows.append((row, found))
    corpus.settle(found for _, found in rows if isinstance(found, _Row))
    for row, found in rows:
        if isinstance(found, Skipped):
            yield found
            continue
        try:
            labels = _labels(row, vocabulary, options)
        except DataError as error:
            yield Skipped(found.where, str(error), error.kind)
            continue
        named = [column for column in options.mask_columns if cell(row[column])]
        masks = {column: Mask("file", _normal(row[column]), values=inside.get(column)) for column in named}
        for film in found.films:
            yield _read_one(corpus, film, found.values, labels, masks, found.where, options, row)
    for film in corpus.films:
        if film not in used:
            yield Skipped(film, f"{name} has no row for it (see also --image_root)", "film without a row")


def _match_rows(
    corpus: _Corpus, name: str, table: pd.DataFrame, options: Options
) -> Iterator[tuple[dict[str, str], _Row | Skipped, list[str]]]:
    """Every row as it is used, or why it is not, and the films that it names."""
    key_column, columns = options.match_column or options.image_column, options.columns()
    index = _Index(corpus, options) if options.match_column else None
    hints = _Hints(corpus, options)
    unclear = _keys_of_several(table, options) if options.match_column else {}
    for number, row in rows_of(table):
        where, key = f"{name} row {number}", cell(row[key_column])
        if not key:
            yield row, Skipped(where, f"column {key_column!r} is blank", "no image named"), []
            continue
        values = {held: cell(row[column]) for held, column in columns.items()}
        films = []
        try:
            if key in unclear:
                raise DataError(
                    f"{key!r} is in rows {unclear[key][:5]}, which differ: which one is its films'?",
                    "key in several rows",
                )
            films = index.find(key) if index else [_normal(f"{options.image_root}/{key}")]
            if not index:
                hints.check(films[0])
            if not films:
                raise DataError(f"no film has {key!r} as accession number or file name", "row without a film")
            blank = [columns[held] for held in ("id", "patient", "study") if values.get(held) == ""]
            if blank:
                raise DataError(f"column {blank[0]!r} is blank: whose film is it?", "id is blank")
        except DataError as error:
            yield row, Skipped(where, str(error), error.kind), films
            continue
        yield row, _Row(where, values, films), films


def _keys_of_several(table: pd.DataFrame, options: Options) -> dict[str, list[int]]:
    """Rows by the keys of films that rows of other texts, patients or labels name too."""
    held = [*options.columns().values(), *options.label_columns, *options.mask_columns]
    contents: dict[str, set[tuple[str, ...]]] = {}
    numbers: dict[str, list[int]] = {}
    for number, row in rows_of(table):
        key = cell(row[options.match_column])
        contents.setdefault(key, set()).add(tuple(cell(row[column]) for column in held))
        numbers.setdefault(key, []).append(number)
    return {key: numbers[key] for key, found in contents.items() if len(found) > 1 and key}


def _normal(path: str) -> str:
    """As `find_films` writes paths; exports of Windows programs have backslashes."""
    return str(Path(path.strip().replace("\\", "/")))


class _Index:
    """Films by accession number, which several films of a study share, and by file name."""

    def __init__(self, corpus: _Corpus, options: Options):
        self.accessions = corpus.accessions
        self.by_name = ByName([(_key(path, options), path) for path in corpus.films])

    def find(self, key: str) -> list[str]:
        if key in self.accessions.paths:
            self.accessions.check(key)
            for path in self.by_name.by_stem.get(key, []):
                self.accessions.check_name(key, path)
            return self.accessions.paths[key]
        name = without_suffix(_normal(key))
        found = self.by_name.find(name)
        if found is None and _ABSOLUTE.match(name):
            # A path of another machine: the longest part of it that is a path here, with a folder where there are any.
            parts = Path(name).parts[1:]
            tails = ("/".join(parts[start:]) for start in range(len(parts) - (not self.by_name.is_flat)))
            found = next((self.by_name.by_path[tail] for tail in tails if tail in self.by_name.by_path), None)
        return [] if found is None else [found]


class _Hints:
    """What to do where a table names no file as it is called."""

    def __init__(self, corpus: _Corpus, options: Options):
        self.raw, self.films, self.column = corpus.raw, set(corpus.films), options.image_column
        self.by_name = {Path(_key(film, options)).name.lower(): film for film in corpus.films}

    def check(self, path: str) -> None:
        """Raise `DataError` if there is no such file, but one of its name but for ending, letters or folder."""
        found = self.by_name.get(Path(without_suffix(path)).name.lower())
        if path in self.films or found is None or is_file(self.raw / path):
            return
        if Path(without_suffix(path)).name != Path(without_suffix(found)).name:
            advice = "small and capital letters differ"
        else:
            advice = (
                f"--match_column {self.column} (instead of --image_column) finds films by their name without ending, "
                "and --image_root says where paths begin"
            )
        raise DataError(f"{path} is missing, but there is {found}: {advice}", "image file missing")


def _key(path: str, options: Options) -> str:
    """The path below the folder of images, without suffix."""
    return without_suffix(str(Path(path).relative_to(_normal(options.image_root))))


def _read_one(
    corpus: _Corpus,
    path: str,
    values: dict[str, str],
    labels: list[Label],
    masks: dict[str, Mask],
    where: str,
    options: Options,
    row: dict[str, str],
) -> Record | Skipped:
    """The record of one film, or why there is none."""
    try:
        film = corpus.headers.of(path)
        # Asked for first: the report of a film that is refused has its film.
        text = corpus.reports.text_of(film, _key(path, options)) if corpus.reports else ""
        check_chest(film, options.modalities, options.any_body_part, options.multi_frame)
        check_intent(film, options.for_processing, options.burned_in)
        record = _record(film, values, labels, masks, text, corpus, options)
        if options.hash_ids:
            known = _identity(corpus, film, values, row, options)
            record.findings = without_identity(record.findings, known)
            record.impression = without_identity(record.impression, known)
    except DataError as error:
        return Skipped(where, str(error), error.kind)
    if options.views and record.view not in options.views:
        return Skipped(where, f"view is {record.view}, asked for are {options.views}", "other view", on_request=True)
    return record


def _identity(corpus: _Corpus, film: Film, values: dict[str, str], row: dict[str, str], options: Options) -> Identity:
    """What is known of the patient, to be searched for in the text."""
    header = read_header(corpus.raw / film.path, (*HEADER_NAMES, *HEADER_IDS, *HEADER_PHRASES)) if film.header else {}
    ids = [values.get(name, "") for name in ("id", "patient", "study")]
    # That of the pattern, and that of other films of the study.
    owner = _owner(film, values, options)
    ids += [owner.patient, corpus.owners.settle(owner).patient]
    # File names are accession numbers more often than not.
    keys = [Path(film.path).stem, row.get(options.match_column or "", "")]
    return identity_of(header, row, options.identity_columns, [*ids, *(key for key in keys if _has_digits(key))])


def _has_digits(key: str) -> bool:
    return sum(letter.isdigit() for letter in key) >= 4


def _vocabulary(table, options: Options) -> list[str]:
    """All findings that `labels_column` ever lists, sorted."""
    if options.labels_column is None:
        return []
    texts = [cell(text) for text in table[options.labels_column].unique()]
    texts = [text for text in texts if text not in options.unlabelled_values]
    return sorted({part.strip() for text in texts for part in text.split(options.label_separator)} - {""})


def _labels(row: dict[str, str], vocabulary: list[str], options: Options) -> list[Label]:
    labels = []
    for name in options.label_columns:
        value = cell(row[name])
        if value and value not in _LABEL_VALUES:
            raise DataError(
                f"label {name!r} is {value!r}: allowed are 1 (present), 0 (absent), -1 (uncertain), blank",
                "unknown label value",
            )
        if value:
            labels.append(Label(name, _LABEL_VALUES[value]))
    listed = cell(row[options.labels_column]) if options.labels_column else ""
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


def _age(text: str, options: Options) -> float | None:
    age = require_age(text)
    is_capped = (options.hash_ids or options.dicom_age_sex) and age is not None
    return min(age, OLDEST) if is_capped else age


class _Ids(NamedTuple):
    """Ids as they are written, and the patient's own, which decides the split and is not written."""

    key: str
    patient: str
    study: str
    split_by: str


def _owner(film: Film, values: dict[str, str], options: Options) -> Owner:
    """Patient and study from the table, else the pattern (patients), else the header; "" where nothing tells them.

    Without a study's UID its accession number tells it.
    """
    patient, patient_in_header = values.get("patient", ""), False
    if not patient and options.patient_pattern:
        found = re.search(options.patient_pattern, film.path)
        patient = found[1] if found and found[1] else ""
    elif not patient and film.get("PatientID"):
        patient, patient_in_header = film.get("PatientID"), True
    if values.get("study"):
        return Owner(patient, values["study"], patient_in_header, False)
    return Owner(patient, film.get("StudyInstanceUID") or film.get("AccessionNumber"), patient_in_header, True)


def _ids(film: Film, values: dict[str, str], corpus: _Corpus, options: Options) -> _Ids:
    """Ids from the table, the pattern, the header; a patient who is unknown is the study, else the image alone."""
    names = corpus.names
    own = values.get("id") or str(Path(film.path).relative_to(_normal(options.image_root)))
    # File names of DICOM exports are accession numbers more often than not.
    numbered = film.header and not values.get("id") and not options.keep_names
    key = patient = study = names.of_header("film", own) if numbered else names.of_table("film", own)
    given = _owner(film, values, options)
    if options.patient_pattern and not given.patient:
        raise DataError(f"patient_pattern {options.patient_pattern!r} is not in {film.path!r}", "patient not found")
    owner = corpus.owners.settle(given)
    if owner.study:
        study = (names.of_header if owner.study_in_header else names.of_table)("study", owner.study)
        patient, own = study, owner.study
    if owner.patient:
        patient = (names.of_header if owner.patient_in_header else names.of_table)("patient", owner.patient)
        own = owner.patient
    return _Ids(key, patient, study, own)


def _text(values: dict[str, str], text: str, options: Options) -> tuple[str, str]:
    """Findings and impression: of the table's columns, else of its whole report or the text file."""
    findings, impression = (cell(plain_text(values.get(name, ""))) for name in ("findings", "impression"))
    whole = "" if findings else values.get("report", "") or ("" if impression else text)
    whole = cell(plain_text(whole))
    parsed = parse_plain_report(whole) if options.parse_sections else None
    if parsed is None:
        return findings or whole, impression
    return parsed[0], impression or parsed[1]


def _record(
    film: Film,
    values: dict[str, str],
    labels: list[Label],
    masks: dict[str, Mask],
    text: str,
    corpus: _Corpus,
    options: Options,
) -> Record:
    ids = _ids(film, values, corpus, options)
    findings, impression = _text(values, text, options)
    return Record(
        record_id=f"{options.source_name}/{ids.key}",
        source=options.source_name,
        patient_id=ids.patient,
        study_id=ids.study,
        split=_split(values.get("split"), ids.split_by, options),
        image_path=film.path,
        findings=findings,
        impression=impression,
        report_origin=options.report_origin,
        language=options.language,
        labels=labels,
        masks=masks,
        view=normalise_view(values["view"]) if values.get("view") else view_of_header(film.header),
        sex=normalise_sex(values.get("sex") or film.get("PatientSex")),
        age_years=_age(values.get("age") or film.get("PatientAge"), options),
        licence=values.get("licence") or None,
    )

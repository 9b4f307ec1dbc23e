"""Arguments of the loader of one's own films."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import ClassVar

from data_scripts.films.files import FRAMES
from data_scripts.own_files.ids import Names
from data_scripts.reading.encodings import check_encoding
from data_scripts.reading.labels import plain_name
from data_scripts.schema import REPORT_ORIGINS, VIEWS, Skipped

_COLUMN_ARGUMENTS = ("findings", "impression", "report", "labels", "patient", "study", "view", "split")
_COLUMN_ARGUMENTS += ("sex", "age", "licence", "id")
_SHORTEST_SALT = 8
#: Arguments that do nothing without another one, and those that do nothing beside another one.
_ONLY_WITH = {
    "label_separator": "labels_column",
    "unlabelled_values": "labels_column",
    "identity_columns": "hash_ids",
}
_NOT_WITH = {
    "image_column": "match_column",
    "patient_pattern": "patient_column",
    "validation_share": "split_column",
    "test_share": "split_column",
}


@dataclass
class Options:
    """Arguments of the loader `folder`: where films and texts are, and which column holds what."""

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
        default_factory=list,
        metadata={"help": "Columns with 1, 0, -1, yes, no ... or blank, each named after its finding."},
    )
    labels_column: str | None = field(
        default=None,
        metadata={
            "help": "The findings present (or a list as JSON or Python writes it) in one column; others are absent."
        },
    )
    label_separator: str | None = field(default=None, metadata={"help": "Separator in labels_column; default: |."})
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
        if self.label_separator == "":
            raise ValueError("label_separator is empty: give the character between two findings")
        self._refuse_what_does_nothing()
        if len({plain_name(column) for column in self.label_columns}) < len(self.label_columns):
            # Later they would be one label (`data_scripts.prepared.labels`).
            raise ValueError(f"label_columns name one finding twice, capitals and _ aside: {self.label_columns}")
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

    def _refuse_what_does_nothing(self) -> None:
        given = self._given()
        for name in sorted(given & {*_ONLY_WITH, *_NOT_WITH}):
            needed, other = _ONLY_WITH.get(name), _NOT_WITH.get(name)
            if needed is not None and needed not in given:
                raise ValueError(f"{name} does nothing without {needed}: give that, too, or leave {name} out")
            if other in given:
                raise ValueError(f"{name} does nothing beside {other}: leave one of them out")

    def _given(self) -> set[str]:
        """The arguments that differ from their defaults."""
        defaults = {
            option.name: option.default if option.default_factory is dataclasses.MISSING else option.default_factory()
            for option in dataclasses.fields(self)
        }
        return {name for name, default in defaults.items() if getattr(self, name) != default}

    def of_table(self) -> list[str]:
        """The arguments given that name a column of the table."""
        return sorted(name for name in self._given() if name.endswith(("_column", "_columns")))

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

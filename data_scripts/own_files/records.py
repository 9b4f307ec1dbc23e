"""The record of one film: ids, texts, split, age, without what tells who it is."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from data_scripts.films.dicom import read_header
from data_scripts.own_files.corpus import Corpus, key_of, owner_of
from data_scripts.own_files.films import Film, check_chest, check_intent, normal_path
from data_scripts.own_files.identities import (
    HEADER_IDS,
    HEADER_NAMES,
    HEADER_PHRASES,
    Identity,
    identity_of,
    without_identity,
)
from data_scripts.own_files.options import Options
from data_scripts.reading.ages import require_age
from data_scripts.reading.blanks import cell
from data_scripts.reading.markup import plain_text
from data_scripts.reading.plain_reports import parse_plain_report
from data_scripts.reading.report_words import says_nothing
from data_scripts.reading.splits import split_by_patient
from data_scripts.reading.views import normalise_sex, normalise_view, require_sex, view_of_header
from data_scripts.schema import SPLITS, DataError, Label, Mask, Record, Skipped

_SPLIT_NAMES = {
    **{split: split for split in SPLITS},
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "training": "train",
    "testing": "test",
}
#: Higher ages are rare enough to tell who it is, so they become this one (45 CFR 164.514(b)(2)(i)(C)).
OLDEST = 90


def read_one(
    corpus: Corpus,
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
        # Before the film is checked: the report of a refused film does not count as a report without a film.
        text = corpus.reports.text_of(film, key_of(path, options)) if corpus.reports else ""
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


def _identity(corpus: Corpus, film: Film, values: dict[str, str], row: dict[str, str], options: Options) -> Identity:
    """What is known of the patient, to be searched for in the text."""
    header = read_header(corpus.raw / film.path, (*HEADER_NAMES, *HEADER_IDS, *HEADER_PHRASES)) if film.header else {}
    ids = [values.get(name, "") for name in ("id", "patient", "study")]
    # The patient's id of the pattern, and the one of other films of the study.
    owner = owner_of(film, values, options)
    ids += [owner.patient, corpus.owners.settle(owner).patient]
    # File names are accession numbers more often than not.
    keys = [Path(film.path).stem, row.get(options.match_column or "", "")]
    return identity_of(header, row, options.identity_columns, [*ids, *(key for key in keys if _has_digits(key))])


def _has_digits(key: str) -> bool:
    return sum(letter.isdigit() for letter in key) >= 4


class _Ids(NamedTuple):
    """Ids as they are written, and the patient's own, which decides the split and is not written."""

    key: str
    patient: str
    study: str
    split_by: str


def _ids(film: Film, values: dict[str, str], corpus: Corpus, options: Options) -> _Ids:
    """Ids from the table, the pattern, the header; a patient who is unknown is the study, else the image alone."""
    names = corpus.names
    own = values.get("id") or str(Path(film.path).relative_to(normal_path(options.image_root)))
    # File names of DICOM exports are accession numbers more often than not.
    numbered = film.header and not values.get("id") and not options.keep_names
    key = patient = study = names.of_header("film", own) if numbered else names.of_table("film", own)
    given = owner_of(film, values, options)
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


def _text(values: dict[str, str], text: str, options: Options) -> tuple[str, str]:
    """Findings and impression: of the table's columns, else of its whole report or the text file.

    One that says no more than that there is no report ("see dictation") is empty, whatever the other one says.

    Raises:
        DataError: they say that there is no report, and it is needed.
    """
    findings, impression = (cell(plain_text(values.get(name, ""))) for name in ("findings", "impression"))
    whole = "" if findings else values.get("report", "") or ("" if impression else text)
    whole = cell(plain_text(whole))
    parsed = parse_plain_report(whole) if options.parse_sections else None
    if parsed is None:
        findings = findings or whole
    else:
        findings, impression = parsed[0], impression or parsed[1]
    words = f"{findings} {impression}".strip()
    findings, impression = ("" if says_nothing(text) else text for text in (findings, impression))
    if words and not (findings or impression) and not options.text_optional:
        raise DataError(f"there is no report, but the words {words!r}", "empty report")
    return findings, impression


def _record(
    film: Film,
    values: dict[str, str],
    labels: list[Label],
    masks: dict[str, Mask],
    text: str,
    corpus: Corpus,
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
        sex=require_sex(values["sex"]) if values.get("sex") else normalise_sex(film.get("PatientSex")),
        age_years=_age(values.get("age") or film.get("PatientAge"), options),
        licence=values.get("licence") or None,
    )

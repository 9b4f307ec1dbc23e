"""Checks of a prepared folder's columns: ids, splits and texts, without films."""

from __future__ import annotations

import re

import pandas as pd

from data_scripts.check.problem import Problem, error, warning
from data_scripts.own_files.identities import tells_identity
from data_scripts.own_files.ids import MANY, MOST, means_nobody
from data_scripts.reading.report_words import are_foreign, looks_foreign, says_nothing

#: The columns that these checks need.
COLUMNS = ("record_id", "patient_id", "study_id", "split", "report", "language")
#: Shorter reports, such as "No acute findings.", are rightly those of many patients.
SHORTEST_OWN_REPORT = 20
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]|Ã[\x80-\xbf]|â€")
_MARKUP = re.compile(
    r"\\\.?(?:br|X0[AD]|[HNFSTRE])\\|\\par\b|</?[a-z]+[^<>]*>|&(?:nbsp|amp|lt|gt|#\d+);", re.IGNORECASE
)
_DATE = r"(?:19|20)\d\d[-/.]?(?:0[1-9]|1[0-2])[-/.]?(?:0[1-9]|[12]\d|3[01])"
#: Names as DICOM writes them, first and last name, dates of birth, e-mail addresses.
_NAME_LIKE = re.compile(rf"\^|@|(?:^|\D){_DATE}(?:\D|$)|^[A-Za-z]+,? [A-Za-z]+$")


def check_splits(rows: pd.DataFrame) -> list[Problem]:
    """Patients and studies with films in several splits.

    Args:
        rows: of `COLUMNS`, as in all checks here.
    """
    problems = []
    for column, what in (("patient_id", "patients"), ("study_id", "studies")):
        crossing = rows.groupby(column, sort=False)["split"].transform("nunique") > 1
        advice = f"films of {rows[column][crossing].nunique():,} {what} are both learnt from and tested on"
        problems += error(f"{what} in several splits", advice, rows["record_id"][crossing])
    return problems


def check_ids(rows: pd.DataFrame) -> list[Problem]:
    """Ids that stand for many patients or studies, and ids that look like names."""
    by_patient = rows.groupby("patient_id", sort=False)
    counts, studies = by_patient["study_id"].transform("size"), by_patient["study_id"].transform("nunique")
    patients = rows["patient_id"].unique()
    nobody = rows["patient_id"].isin([patient for patient in patients if means_nobody(patient)])
    most = max(MOST * len(rows), MANY - 1)
    common = nobody | ((counts > most) & (studies >= MANY))
    shared = rows.groupby("study_id", sort=False)["patient_id"].transform("nunique") > 1
    whole = (rows.groupby("study_id", sort=False)["study_id"].transform("size") > most) & ~common & ~shared
    named = pd.Series(False, rows.index)
    for column in ("record_id", "patient_id", "study_id"):
        own = rows[column].str.rsplit("/", n=1).str[-1]
        named |= own.str.contains(_NAME_LIKE)
    return [
        *error(
            "one patient id for many",
            "unknown patients must not share an id: prepare without it",
            rows["record_id"][common],
        ),
        *error("one study id for most films", "no study is so large", rows["record_id"][whole]),
        *error("a study of several patients", "one of the patients is wrong", rows["record_id"][shared]),
        *warning(
            "ids that look like names or dates",
            "prepare with --hash_ids before passing it on",
            rows["record_id"][named],
        ),
    ]


def check_texts(rows: pd.DataFrame) -> list[Problem]:
    """Reports equal across patients, and texts with remains of encodings, of markup, or of identities."""
    reports = rows["report"].fillna("")
    folded = reports.str.lower().str.split().str.join(" ")
    is_long = folded.str.split().str.len() >= SHORTEST_OWN_REPORT
    shared = is_long & (rows["patient_id"].groupby(folded, sort=False).transform("nunique") > 1)
    advice = f"of {SHORTEST_OWN_REPORT} words or more: a template, or the report of another patient"
    control, markup = reports.str.contains(_CONTROL), reports.str.contains(_MARKUP)
    telling = reports.map(tells_identity)
    silent = (reports != "") & reports.map(says_nothing)
    foreign = (rows["language"] == "en") & reports.map(looks_foreign)
    if not are_foreign(foreign.sum(), (reports != "").sum()):
        foreign[:] = False
    return [
        *error("reports that say nothing", 'such as "." and "see dictation"', rows["record_id"][silent]),
        *error(
            "reports that do not look English",
            "they are read by rules for English: prepare with --language",
            rows["record_id"][foreign],
        ),
        *warning("reports equal across patients", advice, rows["record_id"][shared]),
        *error("control characters in the report", "the encoding was another: --encoding", rows["record_id"][control]),
        *warning("markup in the report", "HL7, HTML or RTF was not undone", rows["record_id"][markup]),
        *warning(
            "report may tell who the patient is",
            "a name, number or date: prepare with --hash_ids",
            rows["record_id"][telling],
        ),
    ]

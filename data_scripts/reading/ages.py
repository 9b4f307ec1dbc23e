"""The spellings of ages in the corpora, in years."""

from __future__ import annotations

import re

from data_scripts.schema import MAX_AGE, DataError

#: A number, and the unit of a DICOM age string (PS3.5, 6.2: D, W, M or Y), such as "058Y", or its word; "85 or more",
#: "85+" and ">85" count as 85.
_AGE = re.compile(
    r"(?:>\s*)?(\d+(?:[.,]\d+)?)\s*(?:([DWMY])|(d)ays?|(w)eeks?|(m)(?:o|os|onths?)|(y)(?:rs?|ears?|o))?(?: old)?"
    r"(?:\+| or more)?",
    re.IGNORECASE,
)
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12, "Y": 1, "": 1}


def parse_age(text: str) -> float | None:
    """Years; None where the age is missing, unreadable or impossible (typing errors such as 411 occur)."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        return None
    unit = "".join(filter(None, match.groups()[1:]))
    return _possible(float(match[1].replace(",", ".")) / _PER_YEAR[unit.upper()])


def require_age(text: str) -> float | None:
    """Years; None where the age is blank.

    Raises:
        DataError: what is given is no age of a person.
    """
    age = parse_age(text)
    if age is None and text.strip():
        raise DataError(f"age is {text!r}, a number of years such as 45 or 045Y is expected", "age not readable")
    return age


def age_between(birth_year: str, study_date: str) -> float | None:
    """Years from a year of birth ("1954" or "1954.0") to the year of a study ("20140915"); None as `parse_age`."""
    birth, study = birth_year.strip().removesuffix(".0"), study_date.strip()[:4]
    return _possible(float(int(study) - int(birth))) if birth.isdigit() and study.isdigit() else None


def _possible(age: float) -> float | None:
    return round(age, 2) if 0 <= age <= MAX_AGE else None

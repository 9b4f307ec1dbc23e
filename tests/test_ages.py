"""Ages in all spellings of the corpora."""

import pytest

from data_scripts.reading.ages import age_between, parse_age, require_age
from data_scripts.schema import DataError


@pytest.mark.parametrize(
    ("text", "years"),
    [
        *[("058Y", 58), ("58", 58), ("58.0", 58), ("85 or more", 85), ("018M", 1.5), ("003D", 0.01), ("104W", 1.99)],
        *[
            ("0", 0),
            ("411", None),
            ("0.5", 0.5),
            ("007y", 7),
            ("", None),
            ("nan", None),
            ("-5", None),
            ("5X", None),
            ("Y", None),
        ],
    ],
)
def test_ages(text, years):
    assert parse_age(text) == years


@pytest.mark.parametrize(
    ("birth", "study", "years"),
    [
        *[("1954.0", "20100304", 56), ("1954", "20100304", 56), ("2011", "20100304", None)],
        *[("None", "20100304", None), ("1954", "", None), ("1800", "20100304", None)],
    ],
)
def test_ages_between_years(birth, study, years):
    assert age_between(birth, study) == years


def test_ages_that_must_be_readable():
    assert (require_age("045Y"), require_age(" ")) == (45, None)
    with pytest.raises(DataError, match="age is 'old'"):
        require_age("old")

"""Shenzhen. Quirks: spellings of sex and age, months, a reading on the first line, a missing reading and outline."""

import pytest

from data_scripts.loaders import shenzhen
from tests.conftest import load_raw_tree
from tests.film_files import read_all, values_of


@pytest.fixture
def raw(tmp_path):
    return load_raw_tree("shenzhen").build(tmp_path)


def test_fields(raw):
    records, skipped = read_all(shenzhen, raw)
    assert skipped == []
    assert [(record.sex, record.age_years, record.findings) for record in records.values()] == [
        ("M", 45, "normal"),
        ("F", 1.5, "invented shadow\nof the right apex"),
        ("M", 33, "invented"),
        (None, None, ""),
    ]
    assert [values_of(record)["Tuberculosis"] for record in records.values()] == [0, 1, 1, 1]
    assert [set(record.masks) for record in records.values()] == [{"lungs"}, set(), set(), set()]


@pytest.mark.parametrize(
    ("reading", "sex", "age", "text"),
    [
        ("Female 40yrs\n1.invented", "F", 40, "1.invented"),
        ("male, 3days\ninvented", "M", 0.01, "invented"),
        ("male \ninvented", "M", None, "invented"),
        ("invented\n", None, None, "invented"),
    ],
)
def test_readings(raw, reading, sex, age, text):
    (raw / "ChinaSet_AllFiles" / "ClinicalReadings" / "CHNCXR_0001_0.txt").write_text(reading)
    record = read_all(shenzhen, raw)[0]["CHNCXR_0001_0"]
    assert (record.sex, record.age_years, record.findings) == (sex, age, text)


def test_shares_make_a_split(raw):
    records, _ = read_all(shenzhen, raw, validation_share=0.4, test_share=0.3)
    again, _ = read_all(shenzhen, raw, validation_share=0.4, test_share=0.3)
    assert records == again
    other = [read_all(shenzhen, raw, validation_share=0.4, test_share=0.3, split_seed=seed)[0] for seed in range(9)]
    assert {one.split for found in other for one in found.values()} == {"train", "validation", "test"}

"""Encodings of labels: what each cell means, and an error for what means nothing."""

import pytest

from data_scripts.reading.labels import (
    CHEXPERT_LABELS,
    ENCODINGS,
    listed_labels,
    merge_readers,
    parse_label,
    row_labels,
)
from data_scripts.schema import DataError, Label


@pytest.mark.parametrize(
    ("text", "encoding", "value"),
    [
        ("1.0", "chexpert", 1),
        (" 1 ", "chexpert", 1),
        ("0.0", "chexpert", 0),
        ("-1.0", "chexpert", -1),
        ("-1", "chexpert", -1),
        ("", "chexpert", None),
        ("nan", "chexpert", None),
        ("1", "binary", 1),
        ("0.0", "binary", 0),
        ("YES", "yes_no", 1),
        ("NO", "yes_no", 0),
    ],
)
def test_cells_have_one_meaning(text, encoding, value):
    assert parse_label(text, encoding) == value


@pytest.mark.parametrize(
    ("text", "encoding"), [("2", "chexpert"), ("yes", "chexpert"), ("-1", "binary"), ("", "binary"), ("", "yes_no")]
)
def test_other_cells_are_errors(text, encoding):
    with pytest.raises(DataError, match="label value is") as caught:
        parse_label(text, encoding)
    assert caught.value.kind == "unknown label value"


def test_no_encoding_has_values_outside_of_the_schema():
    assert {value for table in ENCODINGS.values() for value in table.values()} == {1, 0, -1, None}


def test_rows_give_judged_findings_in_order():
    row = {"Edema": "-1.0", "Fracture": "", "No Finding": "1.0", "other": "x"}
    assert row_labels(row, ["No Finding", "Fracture", "Edema"]) == [Label("No Finding", 1), Label("Edema", -1)]
    assert row_labels(row, {"Edema": "oedema"}) == [Label("oedema", -1)]
    with pytest.raises(DataError, match="column 'other': label value is 'x'"):
        row_labels(row, ["other"])


def test_lists_make_the_rest_absent():
    labels = listed_labels([" Mass", ""], ("Mass", "Nodule"))
    assert labels == [Label("Mass", 1), Label("Nodule", 0)]
    with pytest.raises(DataError, match=r"unknown finding \['Nodul'\]"):
        listed_labels(["Nodul"], ("Mass", "Nodule"))


def test_any_reader_decides_and_counts_are_kept():
    assert merge_readers([0, 1, 0], "Mass") == Label("Mass", 1, readers=3, positive_readers=1)
    assert merge_readers([0, 0], "Mass") == Label("Mass", 0, readers=2, positive_readers=0)
    for votes in ([], [1, -1], [2]):
        with pytest.raises(DataError, match="label 'Mass': the votes are"):
            merge_readers(votes, "Mass")


def test_chexpert_has_fourteen_names():
    assert len(set(CHEXPERT_LABELS)) == 14

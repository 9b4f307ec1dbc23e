"""Text from labels and tidied sections; and the spellings of views."""

import random
import re

import pytest

from data_scripts.reading.reports import synthesise_report, tidy_section
from data_scripts.reading.views import normalise_view
from data_scripts.schema import DataError, Label

NAMES = [f"finding {letter}" for letter in "abcdefghij"]


def absent(*names: str) -> list[Label]:
    return [Label(name, 0) for name in names]


def sentences(text: str) -> list[str]:
    return re.findall(r"[^.]+\.", text)


def test_every_finding_has_its_sentence_in_order():
    labels = [Label("Edema", 1), Label("Mass", 0), Label("Fracture", -1)]
    for number in range(50):
        one, two, three = sentences(synthesise_report(labels, f"x/{number}"))
        assert "edema" in one.lower()
        assert not re.search(r"\b(no|not|absent|free|unclear|possible|cannot)\b", one.lower())
        assert "mass" in two.lower()
        assert re.search(r"\b(no|not|absent|free)\b", two.lower())
        assert "fracture" in three.lower()
        assert re.search(r"\b(possible|cannot be excluded|unclear)\b", three.lower())
    assert one[0].isupper()


def test_all_variants_occur():
    texts = [{synthesise_report([Label("Edema", value)], f"x/{n}") for n in range(200)} for value in (1, 0, -1)]
    assert [len(found) for found in texts] == [8, 7, 3]
    normal = [Label("No finding", 1), *absent(*NAMES)]
    assert len({synthesise_report(normal, f"x/{n}") for n in range(50)}) == 2


@pytest.mark.parametrize(("name", "value", "variants"), [("Pleural Other", 1, 2), ("Pleural Other", 0, 2)])
def test_pleural_other_has_sentences_that_read_well(name, value, variants):
    texts = {synthesise_report([Label(name, value)], f"x/{n}") for n in range(50)}
    assert len(texts) == variants
    assert not any("pleural other" in text.lower() for text in texts)


def test_special_categories_keep_their_sign():
    for number in range(30):
        assert (
            "possible" in (text := synthesise_report([Label("Pleural Other", -1)], f"x/{number}")) or "unclear" in text
        )
        assert re.search(r"\b(No|no|free)\b", synthesise_report([Label("Support Devices", 0)], f"x/{number}"))
        assert "a support device" in synthesise_report([Label("Support Devices", 1)], f"x/{number}").lower()


def test_normal_films_have_one_sentence_unless_something_is_found():
    assert len(sentences(synthesise_report([Label("No Finding", 1), *absent(*NAMES)], "x/1"))) == 1
    assert len(sentences(synthesise_report([Label("No Finding", 1)], "x/1"))) == 1
    # Readers disagree: one said no finding, one found something.
    mixed = [Label("No Finding", 1), Label("Edema", 1), *absent("Mass")]
    assert len(sentences(synthesise_report(mixed, "x/1"))) == 2
    assert synthesise_report([Label("No Finding", 0)], "x/1") == ""
    assert synthesise_report([], "x/1") == ""


def test_negatives_are_dropped():
    labels = [Label("Edema", 1), *absent(*NAMES)]
    assert len(sentences(synthesise_report(labels, "x/1"))) == 11
    assert len(sentences(synthesise_report(labels, "x/1", drop_negatives=7))) == 4
    assert len(sentences(synthesise_report(labels, "x/1", drop_negatives=70))) == 1
    kept = [name for name in NAMES if f"{name}" in synthesise_report(labels, "x/1", drop_negatives=5)]
    assert kept == sorted(kept), "the order of the labels stays"
    chosen = {tuple(n for n in NAMES if n in synthesise_report(labels, f"x/{i}", drop_negatives=5)) for i in range(20)}
    assert len(chosen) > 10, "the choice differs between records"
    with pytest.raises(ValueError, match="at least 0"):
        synthesise_report(labels, "x/1", drop_negatives=-1)


def test_text_depends_on_id_and_seed_alone():
    labels = [Label("Edema", 1), *absent(*NAMES)]
    first = synthesise_report(labels, "x/1", seed=2)
    random.seed(99)
    synthesise_report(labels, "x/2", seed=2)
    assert synthesise_report(labels, "x/1", seed=2) == first
    assert synthesise_report(labels, "x/1", seed=3) != first


def test_abbreviations_stay():
    text = synthesise_report([Label("COPD (Chronic Obstructive Pulmonary Disease)", 1)], "x/1")
    assert "COPD (chronic obstructive pulmonary disease)" in text


def test_unknown_values_are_errors():
    with pytest.raises(DataError, match="label 'Edema' is 2"):
        synthesise_report([Label("Edema", 2)], "x/1")


def test_tidying_changes_white_space_only():
    text = "\n Comparison is made to ___.\n  Heart size 1.5 cm\n (normal).\n \n 1. No edema.\n\n\n"
    tidied = tidy_section(text)
    assert tidied == "Comparison is made to ___.  Heart size 1.5 cm (normal).\n1. No edema.".replace("  ", " ")
    assert "".join(tidied.split()) == "".join(text.split())
    assert tidy_section(" \n ") == ""


@pytest.mark.parametrize(
    ("text", "unified"),
    [
        ("Since XXXX, XXXX-year-old.", "Since ___, ___-year-old."),
        ("Since ___.", "Since ___."),
        ("Chest x-XXXX and XXX", "Chest x-___ and XXX"),
        ("______", "______"),
    ],
)
def test_marks_of_removed_spans_are_unified_and_restored(text, unified):
    assert tidy_section(text, "unify") == unified
    assert tidy_section(text) == text
    if "XXXX" in text:
        assert unified.replace("___", "XXXX") == text
    with pytest.raises(ValueError, match="deid_marks is 'remove'"):
        tidy_section(text, "remove")


@pytest.mark.parametrize(
    ("spellings", "view"),
    [
        (["PA", "POSTERO_ANTERIOR", "pa"], "PA"),
        (["AP", "AP_horizontal", "AP AXIAL", "ANTERO_POSTERIOR", "SUPINE", "AP Supine"], "AP"),
        (["L", "LL", "RL", "LAT", "Lateral", "LARGE LATERAL", "XTABLE LATERAL"], "LATERAL"),
        (["LAO", "RPO", "RLO", "OBLIQUE"], "OBLIQUE"),
        (["AP LLD", "PA RLD", "LT-DECUB", "DECUBITUS"], "DECUBITUS"),
        (["", " ", "UNK", "N/A", "nan", "None", None, "Frontal", "ERECT"], "UNKNOWN"),
        (["COSTAL", "EXCLUDE", "SWIMMERS", "KUB", "AP (KUB)", "PICC LINE", "OTHER"], "OTHER"),
    ],
)
def test_views_of_all_corpora(spellings, view):
    assert [normalise_view(one) for one in spellings] == [view] * len(spellings)

"""Sections of plain-text reports: headers and their spellings, empty and repeated sections, text without any, and the
studies of MIMIC-CXR with rules of their own. All texts are invented.
"""

import pytest

from data_scripts.reading.sections import (
    SPECIAL_STUDIES,
    Section,
    conclusion,
    parse_report,
    section_name,
    special_conclusion,
    split_sections,
)

# Every line begins with a space, an empty line holds it alone.
REPORT = "".join(
    f" {line}\n"
    for line in """FINAL REPORT
EXAMINATION:  CHEST (PA AND LAT)

INDICATION:  ___ year old with cough.

FINDINGS:

Lungs are clear. NOTE: no header, for it is not at the line's begin.

IMPRESSION:  Normal.
""".splitlines()
)


def test_sections_begin_at_headers_in_capitals():
    assert [one.name for one in split_sections(REPORT)] == [
        *("preamble", "examination", "indication", "findings", "impression")
    ]
    sections = parse_report(REPORT)
    assert sections["findings"] == "Lungs are clear. NOTE: no header, for it is not at the line's begin."
    assert sections["impression"] == "Normal."
    assert sections["examination"] == "CHEST (PA AND LAT)"
    assert sections["preamble"] == "FINAL REPORT"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("IMPRESSION", "impression"),
        ("CONCLUSION", "impression"),
        ("FINDINGS AND IMPRESSION", "impression"),
        ("FINDINGS/ IMPRESSION", "impression"),
        ("IMPRESSON", "impression"),
        ("NDICATION", "impression"),
        ("FINDING", "findings"),
        ("FINIDNGS", "findings"),
        ("CHEST, TWO VIEWS", "findings"),
        ("PORTABLE AP UPRIGHT", "findings"),
        ("PA AND LATERAL VIEWS OF THE CHEST", "findings"),
        ("BONE WINDOWS", "findings"),
        ("COMPARISION", "comparison"),
        ("REASON FOR EXAM", "indication"),
        ("PFI", "history"),
        ("PERTINENT HISTORY", "history"),
        ("EXAM", "examination"),
        ("RECOMMENDATION(S)", "recommendations"),
        ("WETREAD", "wet read"),
        ("IMPRESSION AND FINDINGS", "impression"),
        ("FINAL ADDENDUM", "addendum"),
        ("TECHNIQUE", "technique"),
        (" NOTE ", "note"),
    ],
)
def test_headers_have_many_spellings(header, name):
    assert section_name(header) == name


def test_a_second_header_on_a_line_is_text():
    sections = parse_report("\n COMPARISON: None. FINDINGS: none\n IMPRESSION:  FINDINGS:  clear\n")
    assert sections["comparison"] == "None. FINDINGS: none"
    assert sections["impression"] == "FINDINGS:  clear"


def test_empty_sections_and_repeats():
    # A title that looks like findings is empty, and does not hide the real ones.
    sections = split_sections("\n CHEST, PA LATERAL:\n \n INDICATION:  Cough.\n FINDINGS:  Clear.\n FINDINGS: \n")
    assert [one.name for one in sections] == ["preamble", "indication", "findings"]
    assert parse_report("\n IMPRESSION:  First.\n IMPRESSION:  Second.\n")["impression"] == "Second."


def test_reports_without_headers():
    assert split_sections("Just text.") == [Section("full report", "Just text.")]
    assert parse_report(" FINAL REPORT\n \n First.\n \n Second.\n") == {
        "full report": "FINAL REPORT",
        "last_paragraph": "First.\n \n Second.",
    }
    sections = parse_report(" X\n INDICATION:  Cough.\n \n Lungs are clear.\n")
    assert (sections["indication"], sections["last_paragraph"]) == ("Cough.", "Lungs are clear.")
    assert "last_paragraph" not in parse_report(REPORT)


def test_conclusions():
    assert conclusion({"findings": "f", "impression": "i", "comparison": "c"}) == "i"
    assert conclusion({"findings": "f", "comparison": "c"}) == "f"
    assert conclusion({"last_paragraph": "p", "comparison": "c"}) == "p"
    assert conclusion({"comparison": "c"}) == "c"
    assert conclusion({"history": "h"}) == ""


def test_special_studies():
    """One of each rule: a section of another name, a range of characters, nothing."""
    assert len(SPECIAL_STUDIES) == 54
    assert special_conclusion("56451190", "\n NOTE:  Read elsewhere.\n") == "Read elsewhere."
    assert special_conclusion("56451190", "\n INDICATION:  Cough.\n") == ""
    text = "".join(chr(ord("a") + i % 26) for i in range(400))
    assert special_conclusion("51410602", text) == text[47:320]
    assert special_conclusion("58235663", REPORT) == ""

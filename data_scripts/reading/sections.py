"""Sections of the reports of MIMIC-CXR: which part is findings, which impression.

The rules, down to the 54 studies with rules of their own, agree with the official parser, so that texts do too (those
of hospitals have rules of their own, `data_scripts.reading.plain_reports`):
https://github.com/MIT-LCP/mimic-cxr (`txt/section_parser.py`, `txt/create_section_files.py`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: In MIMIC-CXR every line begins with one space, and an empty line holds it alone.
_HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
_PARAGRAPH_BREAK = "\n \n"
#: Headers by the section they begin; those not listed go by the rules below.
_HEADERS = {
    "impression": (
        *("impression", "conclusion", "findings and impression", "findings/impression", "findings/ impression"),
        *("impresson", "imprression", "imoression", "impressoin", "imprssion", "impresion", "imperssion"),
        # Cut off in one report of MIMIC-CXR, where it begins the impression.
        *("mpression", "impession", "ndication"),
    ),
    "findings": (
        *("findings", "finding", "chest, two views", "reference findings"),
        *("findins", "findindgs", "findgings", "findngs", "findnings", "finidngs"),
    ),
    "comparison": (
        *("comparison", "comparisons", "reference exam", "comparison exam", "comparison film"),
        *("comparision", "comparsion", "comparrison", "comparisions"),
    ),
    "indication": ("indication", "reason for examination", "reason for exam", "clinical indication", "idication"),
    "history": ("history", "clinical history", "clinical information", "patient history", "pfi"),
    "examination": ("examination", "exam", "type of examination"),
    "recommendations": ("recommendations", "recommendation", "recommendation(s)"),
    "wet read": ("wet read", "wetread"),
}
_SECTION_OF = {header: section for section, headers in _HEADERS.items() for header in headers}
#: A header that holds one of these words begins that section; the first that fits decides.
_WORDS = ("impression", "findings", "history", "comparison", "addendum")
#: A header that only names the examination, such as "PA AND LATERAL VIEWS", begins the findings.
_EXAMINATION_NAMES = re.compile(
    "chest|portable|pa and lat|lateral and pa|ap and lateral|lateral and ap|frontal and|two views|frontal view|pa view"
    "|ap view|one view|lateral view|bone window|frontal upright|frontal semi-upright|ribs"
)

#: Studies of MIMIC-CXR whose conclusion is in a section of another name ...
_IN_SECTION = {
    "recommendations": "50913680 59768032 59067458 59087630 58157373 56482935 58375018",
    "examination": "59363654 53356173 50743547 59215320 55157853",
    "technique": "59279892 53202765 50808053",
    "indication": "57936451 50058765 51966317 55124749 54365831 54654948",
    "note": "56451190",
    "history": "51491012",
}
_SECTION_OF_STUDY = {study: section for section, studies in _IN_SECTION.items() for study in studies.split()}
#: ... in a range of characters of the file ...
_RANGE_OF_STUDY = {
    **{"50525523": (201, 349), "57564132": (233, 554), "59982525": (313, 717), "53488209": (149, 475)},
    **{"54875119": (234, 988), "50196495": (59, 399), "56579911": (59, 218), "52648681": (292, 631)},
    **{"59889364": (172, 453), "53514462": (73, 377), "59505494": (59, 450), "53182247": (59, 412)},
    **{"51410602": (47, 320), "56412866": (522, 822), "54986978": (59, 306), "59003148": (262, 505)},
    **{"57150433": (61, 394), "56760320": (219, 457), "59562049": (158, 348), "52674888": (145, 296)},
    **{"55258338": (192, 568), "59330497": (140, 655), "52119491": (179, 454)},
}
#: ... or missing.
_WITHOUT_CONCLUSION = (
    *("58235663", "50798377", "54168089", "53071062", "56724958", "54231141", "53607029", "52035334"),
)
#: All studies of MIMIC-CXR with a rule of their own; the official table of sections lacks them.
SPECIAL_STUDIES = frozenset({*_SECTION_OF_STUDY, *_RANGE_OF_STUDY, *_WITHOUT_CONCLUSION})


class Section(NamedTuple):
    """A part of a report: its name in small letters, and its text as written."""

    name: str
    text: str


def split_sections(text: str) -> list[Section]:
    """The sections of a report in order, with the names of `section_name`.

    What precedes the first header is "preamble", a report without header one section "full report". Findings and
    impressions without text are left out. If neither remains, what follows the first paragraph of the last section
    is a section "last_paragraph".
    """
    sections = [
        section
        for section in _cut_at_headers(text)
        if section.name not in ("findings", "impression") or section.text.strip()
    ]
    names = {section.name for section in sections}
    if not names & {"findings", "impression"}:
        name, last = sections[-1]
        head, found, rest = last.partition(_PARAGRAPH_BREAK)
        if found:
            sections[-1:] = [Section(name, head), Section("last_paragraph", rest)]
    return sections


def _cut_at_headers(text: str) -> list[Section]:
    header = _HEADER.search(text)
    if header is None:
        return [Section("full report", text)]
    sections = [Section("preamble", text[: header.start(1)])]
    while header is not None:
        start = header.end()
        # A second header on the line of the first is text: it only names the view.
        following = _HEADER.search(text, max(text.find("\n", start), start))
        end = len(text) if following is None else following.start()
        sections.append(Section(section_name(header[1]), text[start:end]))
        header = following
    return sections


def section_name(header: str) -> str:
    """The name of the section that a header begins; the header itself in small letters where no rule fits."""
    header = header.lower().strip()
    if header in _SECTION_OF:
        return _SECTION_OF[header]
    for word in _WORDS:
        if word in header:
            return word
    return "findings" if _EXAMINATION_NAMES.search(header) else header


def parse_report(text: str) -> dict[str, str]:
    """The text of every section by name, stripped; of several of one name, the last."""
    return {section.name: section.text.strip() for section in split_sections(text)}


def special_conclusion(study_id: str, text: str) -> str:
    """The conclusion of one of `SPECIAL_STUDIES` of MIMIC-CXR; empty where its report has none.

    Args:
        study_id: eight digits, without the letter "s".
        text: the report file as it is.
    """
    if study_id in _SECTION_OF_STUDY:
        return parse_report(text).get(_SECTION_OF_STUDY[study_id], "")
    start, end = _RANGE_OF_STUDY.get(study_id, (0, 0))
    return text[start:end].strip()


def conclusion(sections: dict[str, str]) -> str:
    """The text of a parsed report that says most: impression, else findings, last paragraph, comparison, or ""."""
    return next((sections[n] for n in ("impression", "findings", "last_paragraph", "comparison") if n in sections), "")

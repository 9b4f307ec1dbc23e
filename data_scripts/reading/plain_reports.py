"""Findings and impression of reports as hospitals write them, with or without headers, on one line or many.

Otherwise than by the official rules for MIMIC-CXR (`data_scripts.reading.sections`), a sub-header that is not known
(LUNGS:, LATERAL VIEW:) stays inside its section, and sections that come twice, and addenda, are joined in order.
History, indication, technique, comparison, signatures and letterheads never become findings. Headers are those of
`data_scripts.reading.report_headers`, in seven languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_scripts.reading.blanks import cell
from data_scripts.reading.report_headers import AMBIGUOUS, SECTION_OF
from data_scripts.reading.report_words import says_nothing

#: A header in capitals, or of few words, that holds one of these begins that section; the first that fits decides.
_WORDS = {
    re.compile(r"\b(?:prior|previous) (?:report|stud|exam|film|chest|radiograph|ct|x-?ray)"): "context",
    re.compile(r"\bimpression\b"): "impression",
    re.compile(r"\bfindings\b"): "findings",
    re.compile(r"\b(?:history|indications?|comparisons?)\b"): "context",
}
_MOST_WORDS = 4
_SIGNATURE = "(signature)"
_TEXT = ("findings", "impression", "addendum")
#: Where no section of findings is open, a header of such words alone begins one.
_ANATOMY = re.compile(
    r"(?:(?:lungs?|pleurae?|pleural|spaces?|heart|cardiac|cardio(?:mediastin|vascul)\w+|mediastin\w+|silhouette|hil\w+"
    r"|bon[ey]\w*|osseous|skelet\w+|soft|tissues?|chest|thora\w+|wall|diaphragms?|airways?|trachea|lines?|tubes?"
    r"|catheters?|devices?|support|upper|abdomen|vess\w+|vascul\w+|pulmonary|ribs?|spine|structures?|size|parenchyma"
    r"|fields?|zones?|right|left|costophrenic|angles?|great|aorta|and|the|of|or|other)(?:[\s,/&()-]+|$))+"
)
#: A header that only names the views begins findings where nothing else does.
_VIEWS = re.compile(r"\b(?:chest|portable|radiographs?|x-?rays?|cxr|views?|pa|ap|lateral|frontal|upright|supine)\b")

_DECORATION = r"[ \t*_#=>\[\]<•-]*(?:\d{1,2}[.)][ \t]*)?"
_LONGEST_FIRST = sorted(SECTION_OF, key=len, reverse=True)
_NAMES = "|".join(re.escape(header).replace(r"\ ", r"[ \t]+") for header in _LONGEST_FIRST)
_CAPITALS = "|".join(re.escape(header.upper()).replace(r"\ ", r"[ \t]+") for header in _LONGEST_FIRST)
_SUBHEADS = "LUNGS?|HEART|PLEURA|MEDIASTINUM|CARDIOMEDIASTINAL SILHOUETTE|BONES|OSSEOUS STRUCTURES"
_COLON = r"[ \t*_\]]*[:：][*_]*"
#: Headers at the begin of a line.
_AT_LINE = (
    re.compile(
        rf"{_DECORATION}(?P<addendum>(?i:addendum|end of addendum)\b[^:\n]{{0,50}})(?:{_COLON}|$)", re.MULTILINE
    ),
    # Any with a colon; whether it is known is asked later.
    re.compile(rf"{_DECORATION}([^\W\d_][\w ()/,&#'’.-]{{0,58}}?){_COLON}"),
    # A known one that has the line for itself, or a dash.
    re.compile(rf"{_DECORATION}((?=[A-Z])(?i:{_NAMES}))(?:[ \t*_=\]-]*$|[ \t]*[-–—]{{1,2}}(?=\s))", re.MULTILINE),
)
#: A known one in capitals, without a colon, before text in small letters; also after a sentence.
_BARE = re.compile(rf"({_CAPITALS})[ \t]+(?=[A-Z][a-z]|\d+[.)])")
_SENTENCE_BEGIN = re.compile(r"[.!?][ \t]*(?=[A-Z]{2})")
#: What stands before a colon within a line: a known header, in capitals or after a sentence.
_BEFORE_COLON = re.compile(rf"(?:(?<![A-Za-z/-])({_CAPITALS}|{_SUBHEADS})|(?<=[.!?;\s]\s)((?i:{_NAMES})))[ \t*_\]]*$")
_LONGEST_HEADER = 64
_ANY_COLON = re.compile("[:：][*_]*")

_WORD = r"[A-Z][A-Za-z'-]{0,30}\.?"
_PERSON = rf"(?:(?:Dr|Prof)\.?[ \t]+{_WORD}|{_WORD}[ \t]+{_WORD})(?:[ \t]+{_WORD}){{0,3}}"
_DEGREES = r"(?:[ \t]+|,[ \t]*(?:D\.?O\b)?)(?:(?<=O)|(?:M\.?D|MBBS|MBChB|FRCR|FRANZCR|FRCPC|Ph\.?D)\b)[^\n]{0,60}"
#: What follows is of the writer, until the next header.
_SIGNED = re.compile(
    r"\b(?:electronically|digitally)\s+(?:signed|approved|verified|authenticated)\b|\be-?signed\b|(?<!\w)/s/",
    re.IGNORECASE,
)
_SIGNATURE_LINE = re.compile(
    r"[ \t]*(?:(?i:(?:dictated|transcribed|signed|finali[sz]ed|authenticated)(?: (?:and|&) \w+)? (?:by|on)\b"
    r"|sincerely|(?:kind|best) regards|yours (?:truly|faithfully|sincerely)|workstation id"
    r"|thank you for (?:this|your|the) (?:referr?al|kind)"
    r"|i(?:,[^,\n]{1,60},)? have (?:personally )?(?:reviewed|interpreted)"
    rf"|(?:approved|verified|reported|interpreted|reviewed|authori[sz]ed|read) by(?: ?:|(?= (?-i:{_PERSON}))))"
    rf"|(?:Dr|Prof)\.?[ \t]+{_WORD}(?:[ \t]+{_WORD}){{0,3}}(?:{_DEGREES})?$|{_PERSON}{_DEGREES}$)",
    re.MULTILINE,
)
#: What may stand between the header FINDINGS and its text, for one sentence.
_IN_FINDINGS = re.compile("compar|techni|exam|prior|previous")
_SENTENCE = re.compile(r"[^.\n]*(?:\.(?!\s)[^.\n]*)*\.?")
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")
_SENTENCE_END = (".", "!", "?")
#: A paragraph without a header speaks of the film: not the rest of a history.
_OF_THE_FILM = re.compile(
    r"(?i)\b(?:lungs|heart|cardiac|cardio\w+|mediastin\w+|pleural|hil(?:a|ar|um)|hemi?diaphragms?|diaphragms?|costophrenic"
    r"|trachea|silhouette|vasculature|there (?:is|are)|no evidence|unremarkable|normal\w*|clear|aerated|no acute"
    # German, French, Spanish, Portuguese, Italian, Dutch.
    r"|lungen?\w*|herz\w*|pleura\w*|zwerchfell\w*|infiltrat\w*|erguss|keine?|unauffällig\w*|poumons?|c(?:œ|oe)ur"
    r"|médiastin\w*|épanchements?|aucune?|pulm[oó]n\w*|corazón|coração|derrames?|silueta|silhueta|polmon\w*|cuore"
    r"|versament\w*|longen|hart\w*|geen)\b"
)


def parse_plain_report(text: str) -> tuple[str, str] | None:
    """Findings and impression of a whole report; None if nothing in it is a known header: all of it is text then.

    Headers count in any letters at the begin of a line, with or without colon, and after a sentence; markup must have
    been undone (`markup.plain_text`). Addenda belong to the impression. Without a section of findings, paragraphs
    that follow the first one of another section are findings, and so are those before the first header. Both may be
    empty, for reports that hold a history alone.
    """
    sections = list(_sections(text.strip()))
    if len(sections) == 1:
        return None
    findings = _joined(sections, "findings")
    impression = _joined(sections, "impression", "addendum")
    if not findings:
        findings = _joined(sections, "views") or _body(sections, has_impression=bool(_joined(sections, "impression")))
    return findings, impression


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """(section, its text) in order; the first is "before", what stands before all headers."""
    current, start = "before", 0
    for begin, end, written in sorted(_candidates(text), key=lambda found: found[:2]):
        if begin < start:
            continue
        section, name = _section_of(written, current)
        if section is None:
            continue
        before = text[start:begin]
        yield current, before
        if current == "findings" and section == "context" and _IN_FINDINGS.match(name) and not before.strip():
            # FINDINGS: Comparison: 2019. The lungs are clear.
            start = _SENTENCE.match(text, end).end()
            continue
        # A sub-header is part of its text.
        current, start = section, begin if name.endswith("+") else end
    yield current, text[start:]


def _candidates(text: str) -> Iterator[tuple[int, int, str]]:
    """(begin, end, header as written) of all that may begin a section, known or not; signatures are called so."""
    for line in re.finditer(r"[^\n]+", text):
        begin, line_end = line.span()
        matches = (pattern.match(text, begin) for pattern in _AT_LINE)
        yield from ((begin, found.end(), found[1]) for found in matches if found)
        if _SIGNATURE_LINE.match(text, begin):
            yield begin, begin, _SIGNATURE
        elif bare := _BARE.match(text, begin):
            yield begin, bare.end(), bare[1]
        for colon in _ANY_COLON.finditer(text, begin, line_end):
            window = max(begin, colon.start() - _LONGEST_HEADER)
            if header := _BEFORE_COLON.search(text[window : colon.start()]):
                yield window + header.start(), colon.end(), header[1] or header[2]
    for sentence in _SENTENCE_BEGIN.finditer(text):
        if bare := _BARE.match(text, sentence.end()):
            yield sentence.end(), bare.end(), bare[1]
    for signed in _SIGNED.finditer(text):
        yield signed.start(), signed.start(), _SIGNATURE


def _section_of(written: str, current: str) -> tuple[str | None, str]:
    """The section that the header begins, None for none, and its name; a "+" after it: the name is part of the text."""
    name = " ".join(written.lower().split())
    if written == _SIGNATURE:
        return "letter", ""
    if "addendum" in name and re.match("addendum|end of", name):
        return ("letter" if re.search(r"\bends?\b", name) else "addendum"), ""
    if name in SECTION_OF:
        return (None if current in _TEXT and name in AMBIGUOUS else SECTION_OF[name]), name
    is_capitals = written == written.upper()
    if is_capitals or len(name.split()) <= _MOST_WORDS:
        for words, section in _WORDS.items():
            if words.search(name) and (is_capitals or section != "context" or current not in _TEXT):
                return section, name if is_capitals else name + "+"
    if current in (*_TEXT, "views"):
        return None, name
    if _ANATOMY.fullmatch(name) and name != "chest":
        return "findings", name + "+"
    return ("views" if is_capitals and _VIEWS.search(name) else None), name


def _joined(sections: list[tuple[str, str]], *names: str) -> str:
    """The texts of all sections of these names; blank words such as "nan" are no text.

    Nor is "see above" beside text; alone it stays, so that who asks can tell it.
    """
    texts = [trimmed for section, text in sections if section in names and (trimmed := _trimmed(text))]
    return "\n".join([text for text in texts if not says_nothing(text)] or texts)


def _trimmed(text: str) -> str:
    return cell("\n".join(line.strip(" \t") for line in text.strip(" \t\n*_=-").splitlines()))


def _body(sections: list[tuple[str, str]], has_impression: bool) -> str:
    """Findings that have no header: whole sentences before the first one, and after another section's paragraph."""
    kept = []
    for section, text in sections:
        if section not in ("before", "context", "letter"):
            continue
        paragraphs = [_trimmed(part) for part in _PARAGRAPH_END.split(text.lstrip())]
        for paragraph in paragraphs if section == "before" else paragraphs[1:]:
            is_all = not has_impression and section != "before"
            is_sentence = paragraph.endswith(_SENTENCE_END) or not has_impression
            if is_all or (is_sentence and _OF_THE_FILM.search(paragraph)):
                kept.append(paragraph)
    return "\n".join(part for part in kept if part)

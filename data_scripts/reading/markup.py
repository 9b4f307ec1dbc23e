"""Report text as information systems export it, made plain: HL7 escapes, HTML, RTF, escaped line breaks.

Words stay as they are; only what stands for a line break, a character or a layout is replaced. Text without markup
comes back unchanged, but for control characters and the kind of its line breaks.
"""

from __future__ import annotations

import html
import re

from data_scripts.reading.rtf import read_rtf
from data_scripts.schema import DataError

#: Layout commands of HL7's formatted text (v2.9, chapter 2.7.7); of these, indents and filling say nothing.
_HL7_LAYOUT = re.compile(r"\\\.(br|sp|ce|sk|fi|nf|in|ti)[+-]?\d*(?:\\|(?=\s|$))")
_HL7_HEX = re.compile(r"\\X((?:[0-9A-Fa-f]{2})+)\\")
_HL7_CHARACTERS = {"F": "|", "S": "^", "T": "&", "R": "~", "H": "", "N": ""}
_HL7_CHARACTER = re.compile(r"\\([FSTRHN])\\")
#: The separator of repetitions parts lines where it stands before a header; "~2 cm" means about.
_HL7_REPETITION = re.compile(r"~+(?=\s*[A-Za-z])|~~+")
_REPEATED_HEADER = re.compile(r"~\s*[A-Z][A-Za-z ]+:")
_ESCAPED = re.compile(r'\\r\\n|\\[nrt"]|\\u([0-9a-fA-F]{4})')
#: Excel writes carriage returns in this way.
_EXCEL_BREAK = re.compile(r"_x000[dD]_\n?|_x000[aA]_")

_TAGS = "br|p|div|span|b|i|u|em|strong|font|html|body|table|tr|td|th|ul|ol|li|pre|h[1-6]|center|hr|title|head|style"
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_HIDDEN = re.compile(r"<!--.*?-->|<(script|style|head)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
#: Several in a row are one line break, as `</p><p>` is, or an empty line where one begins twice.
_BREAKING_TAGS = re.compile(
    r"(?:\s*</?(?:br|p|div|table|tr|ul|ol|li|pre|h[1-6]|center|hr|body|title)\b[^<>]*>(?:\s|&nbsp;)*)+", re.IGNORECASE
)
_SPACING_TAG = re.compile(r"</?(?:td|th)\b[^<>]*>", re.IGNORECASE)
_ANY_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]*);")
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x7f\u00ad\u200b-\u200f\u2060\ufeff\ud800-\udfff]")
#: Text may be escaped more than once on its way, such as HTML in XML; more often than this it is not read.
_MOST_ESCAPES = 3


def plain_text(text: str) -> str:
    r"""The report without markup, lines ended by "\n".

    Raises:
        DataError: a whole HL7 message or clinical document, which holds the patient beside the report; or RTF with
            binary parts.
    """
    start = text.lstrip("\ufeff\x0b \r\n\t")
    if re.match(r"MSH[|]|<\?xml|<(?:\w+:)?ClinicalDocument\b", start):
        raise DataError(
            "the report is a whole HL7 message or XML document: export its text alone", "report is a whole message"
        )
    if start.startswith("{\\rtf"):
        text = read_rtf(start)
    elif "\\" in text:
        text = _without_escapes(text)
    text = _EXCEL_BREAK.sub("\n", text)
    if _REPEATED_HEADER.search(text):
        text = _HL7_REPETITION.sub("\n", text)
    for _ in range(_MOST_ESCAPES):
        before, text = text, _without_html(text)
        if text == before:
            break
    return "\n".join(_INVISIBLE.sub("", line.replace("\xa0", " ")) for line in text.splitlines())


def _without_escapes(text: str) -> str:
    r"""HL7 escapes, then the line breaks and characters of program text (two characters, such as \ and n)."""
    text = text.replace("\\E\\", "\\")
    text = _HL7_LAYOUT.sub(lambda command: "\n" if command[1] in ("br", "sp", "ce", "sk") else " ", text)
    text = _HL7_HEX.sub(lambda found: bytes.fromhex(found[1]).decode("latin-1"), text)
    text = _HL7_CHARACTER.sub(lambda found: _HL7_CHARACTERS[found[1]], text)
    return _ESCAPED.sub(_unescaped, text)


def _unescaped(found: re.Match) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    return {"\\t": "\t", '\\"': '"'}.get(found[0], "\n")


def _without_html(text: str) -> str:
    if _TAG.search(text):
        text = _SPACING_TAG.sub(" ", _BREAKING_TAGS.sub(_line_break, _HIDDEN.sub("", text)))
        text = _ANY_TAG.sub("", text)
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def _line_break(tags: re.Match) -> str:
    begun = re.findall(r"<(br|p|div)\b", tags[0].lower())
    return "\n\n" if len(begun) > len(set(begun)) else "\n"

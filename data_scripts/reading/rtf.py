"""The text of RTF, as dictation systems write it: no layout, tables as lines.

Follows the Rich Text Format Specification 1.9.1: groups with scopes, code pages (`\\ansicpg`, `\\'e9`), Unicode
(`\\u233?` with `\\uc`), destinations that hold no text, and hidden or deleted text, which is left out.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from data_scripts.schema import DataError

_TOKEN = re.compile(
    r"\\([A-Za-z]{1,32})(-?\d{1,10})? ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)"
)
#: Groups that begin with one of these hold no text of the document.
_NO_TEXT = frozenset(
    (
        *("fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "header", "headerl", "headerr", "headerf"),
        *("footer", "footerl", "footerr", "footerf", "footnote", "listtable", "listoverridetable", "revtbl", "rsidtbl"),
        *("generator", "themedata", "datastore", "latentstyles", "xmlnstbl", "fldinst", "filetbl", "annotation"),
    )
)
_CHARACTERS = {
    **dict.fromkeys(("par", "line", "sect", "page", "row"), "\n"),
    **{"tab": "\t", "cell": "  ", "emdash": "—", "endash": "–", "bullet": "•", "emspace": " ", "enspace": " "},
    **{"lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”"},
}
_SYMBOLS = {"~": " ", "_": "-", "\\": "\\", "{": "{", "}": "}", "\n": "\n", "\r": "\n"}


class _Scope(NamedTuple):
    """What holds until the end of a group."""

    is_hidden: bool = False
    #: How many substitute characters follow a Unicode character, for programs without Unicode.
    fallback: int = 1


def read_rtf(text: str) -> str:
    """The text of an RTF document.

    Raises:
        DataError: it has binary parts or more than one byte a character.
    """
    page = _code_page(text)
    scope, outer, written, to_skip = _Scope(), [], [], 0
    for token in _TOKEN.finditer(text):
        word, number, byte, symbol, brace, plain = token.groups()
        if brace == "{":
            outer.append(scope)
        elif brace == "}":
            scope, to_skip = (outer.pop() if outer else scope), 0
        elif word:
            scope = _scope_after(word, number, scope)
            if word == "u" and number:
                to_skip = scope.fallback
            written.append("" if scope.is_hidden else _of_word(word, number))
        elif symbol == "*":
            scope = scope._replace(is_hidden=True)
        elif byte or symbol:
            character = bytes.fromhex(byte).decode(page, "replace") if byte else _SYMBOLS.get(symbol, "")
            written.append("" if scope.is_hidden or to_skip else character)
            to_skip = max(to_skip - 1, 0)
        elif plain:
            written.append("" if scope.is_hidden else plain[to_skip:])
            to_skip = max(to_skip - len(plain), 0)
    return "".join(written)


def _code_page(text: str) -> str:
    number = re.search(r"\\ansicpg(\d+)", text)
    page = f"cp{number[1]}" if number and number[1] != "0" else "cp1252"
    if page in ("cp932", "cp936", "cp949", "cp950"):
        raise DataError(f"RTF of code page {page[2:]}: save the report as plain text", "RTF not readable")
    try:
        codecs.lookup(page)
    except LookupError:
        return "cp1252"
    return page


def _scope_after(word: str, number: str | None, scope: _Scope) -> _Scope:
    if word == "bin":
        raise DataError("RTF with binary parts: save the report as plain text", "RTF not readable")
    if word in _NO_TEXT:
        return scope._replace(is_hidden=True)
    if word in ("v", "deleted"):
        return scope._replace(is_hidden=number != "0")
    if word == "uc":
        return scope._replace(fallback=min(int(number or 1), 10))
    return scope


def _of_word(word: str, number: str | None) -> str:
    if word == "u" and number:
        code = int(number) % 0x10000
        return "" if 0xD800 <= code < 0xE000 else chr(code)
    return _CHARACTERS.get(word, "")

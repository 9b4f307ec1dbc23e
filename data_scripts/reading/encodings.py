"""Bytes of texts and tables made into characters: what the file says of itself, else utf-8, else Windows' cp1252.

Single-byte code pages decode anything into something, so a guess can be silently wrong. cp1252 is taken only where what
comes out looks like a Western language; all else is refused with the words that help: name the encoding.
"""

from __future__ import annotations

import codecs
import re

from data_scripts.schema import DataError

#: utf-32 first: its mark begins with that of utf-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
#: Signs that no Western language has between two letters, but that are letters in other code pages ("P³uca").
_SIGN_IN_WORD = re.compile(r"(?<=[^\W\d_])[¡¢£¤¥¦§¨©ª¬®¯±²³¶¸¹º¼½¾¿†‡‰‹›ˆ˜™](?=[^\W\d_])")
_WORD = re.compile(r"[^\W\d_]{2,}")
#: Share of letters outside of ASCII in the words that have any: a third in French ("été" 2 of 3), all in Russian.
_MOST_FOREIGN = 0.67
_MOST_SIGNS = 0.2
_ADVICE = "name its encoding with --encoding (e.g. gbk, cp1251, utf-16-le), or save it as UTF-8"


def check_encoding(encoding: str | None) -> None:
    """Raise `ValueError` if Python knows no text encoding of this name."""
    try:
        if encoding is not None:
            "".encode(encoding)
    except (LookupError, ValueError) as error:
        raise ValueError(f"encoding {encoding!r} is not known (e.g. utf-8, cp1252, gbk, shift_jis)") from error


def decode_text(content: bytes, where: str, encoding: str | None = None) -> str:
    """The characters of a file.

    Args:
        content: all bytes of the file.
        where: the file, for messages.
        encoding: the name of the encoding; None: by the byte order mark, else utf-8, else cp1252 where that looks
            like text of a Western language.

    Raises:
        DataError: the bytes are not of this encoding, or none of these fits.
    """
    name = encoding or next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if name is None and b"\0" in content:
        raise DataError(f"{where}: NUL characters: no text, or utf-16 without a byte order mark; {_ADVICE}", _KIND)
    try:
        return content.decode(name or "utf-8").removeprefix("\ufeff")
    except (UnicodeDecodeError, LookupError) as error:
        if name is not None:
            raise DataError(f"{where}: not {name} ({error}); {_ADVICE}", _KIND) from error
        return _western(content, where, error)


_KIND = "encoding not known"


def _western(content: bytes, where: str, error: UnicodeDecodeError) -> str:
    """Text of cp1252, whose punctuation latin-1 would make control characters of."""
    line = content.count(b"\n", 0, error.start) + 1
    lenient = content.decode("utf-8", "surrogateescape")
    broken = len(re.findall(r"[\udc80-\udcff]", lenient))
    whole = len(_NOT_ASCII.findall(lenient)) - broken
    if 4 * whole >= broken:
        raise DataError(
            f"{where}: utf-8 but for {broken} bytes, the first in line {line}: mend them, or {_ADVICE}", _KIND
        )
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError as wrong:
        raise DataError(f"{where}: neither utf-8 (line {line}) nor cp1252 ({wrong}); {_ADVICE}", _KIND) from wrong
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    foreign = sum(len(_NOT_ASCII.findall(word)) for word in words)
    signs = len(_SIGN_IN_WORD.findall(text))
    if foreign > _MOST_FOREIGN * sum(map(len, words)) or signs > _MOST_SIGNS * len(_NOT_ASCII.findall(text)):
        raise DataError(f"{where}: not utf-8 (line {line}), and no Western text in cp1252; {_ADVICE}", _KIND)
    return text

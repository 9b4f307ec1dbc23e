"""Removing from a report's text what tells who the patient is, as far as header, table and common forms tell it.

What is known of a film (names, ids, accession number, birth date, physicians, institution) is searched for in the text
in any letters, and so are numbers of the same form as its ids, all full dates, names after a title, signatures, and
numbers after words such as MRN. Each becomes "___". A name that nothing of this tells stays, as does a known name that
is a common word of reports ("Small") unless it stands beside another part of the name or a title.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from data_scripts.reading.reports import REMOVED_SPAN
from data_scripts.schema import DataError

#: Read to be searched for, never written. Of these, the last are searched for as a whole.
HEADER_NAMES = (
    *("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ResponsiblePerson"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord"),
    *("RequestingPhysician", "OperatorsName"),
)
HEADER_IDS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "StudyInstanceUID", "PatientBirthDate")
HEADER_PHRASES = ("InstitutionName", "InstitutionAddress", "PatientAddress", "PatientTelephoneNumbers")
#: Columns that are searched for without being asked.
_NAME_COLUMN = re.compile(
    r"(?i)(?:^|patient|pt|last|first|middle|given|family|sur|full|maiden)[ _.-]*name$|physician|doctor|radiologist"
    r"|referr|operator|technolog|radiographer|author|signed"
)
_ID_COLUMN = re.compile(
    r"(?i)\bmrn\b|_mrn|mrn_|medical.?record|accession|birth|\bdob\b|ssn|insurance|phone|e-?mail|patient.?(?:id|no|num)"
)
#: Words of reports, and small words, that are also names: alone they tell nobody.
_COMMON_WORDS = (
    "small large young white black gray grey brown green long short rose bone bones heart hart lung may "
    "june april august march grant mark marks will bill rich left right wright field fields chest hill "
    "love day new old strong stable clear line lines sharp best good low high upper lower little major "
    "minor normal view views price body head neck rib ribs hand foot frank bright dense light see wells "
    "port king ray rays case power ward west north east south page read hunter cross joint root base apex "
    "patient male female man woman doctor md pa ap no an in so do he she to of or on at is a as be by me "
    "my we us up the and for was had has not are but all any one two van de der den la le el al von san "
    "st dr mr mrs ms bin ben da di du lay law free wall stone stones wire wires tube tubes film films "
    "mass edema size cm mm lateral frontal medial central basal tip bases single early late mild severe "
    "moderate chronic acute test unknown anonymous none good ball bell cane card change close cook cut "
    "dale dean drain fall fine fisher flood gap gas hard hook huff ice image iron islam key kidney knee "
    "lane lobe loop mean moss noble nodule pace pleura pole post prior rice rim ring rod rush sample "
    "savage scar shell shunt silver skin spine split spring stem stent street summer swan thick thin "
    "trace underwood vein wedge wide wing winter wood woods words worth yellow zone christian air arch "
    "area art born bow branch bridge clip coil core cover crown"
)
_COMMON = frozenset(_COMMON_WORDS.split())
_SHORTEST_ID = 4
#: Shorter ones may come about by chance where spaces are left out.
_SHORTEST_WHOLE_NAME = 8
_TITLES = frozenset(("mr", "mrs", "ms", "miss", "dr", "prof", "doctor"))

_NAME = r"[A-Z][A-Za-z'’-]+"
_MONTH = r"(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
#: Forms that tell who it is whatever the header says.
_FORMS = tuple(
    re.compile(form)
    for form in (
        r"(?i:\b(?:electronically|digitally)\s+(?:signed|approved|verified|authenticated)\b[^\n]*)",
        r"(?im:^[ \t]*(?:dictated|transcribed|signed) by\b[^\n]*)",
        r"(?i:\b(?:mrn|medical record(?: number| no\.?)?|accession(?: number| no\.?)?|acc(?= ?[#:])|patient id|dob|ssn"
        r"|date of birth|birth date|born(?: on| in)?|phone|tel|fax|pager|ext)\b[ \t.:#]*(?=[\w/.-]*\d)[\w/.-]*\w)",
        rf"\b(?i:patient(?:'s)?(?: name)?|name|pt)\s*:\s*{_NAME}(?:,?[ \t]+{_NAME}|,?[ \t]+[A-Z]\.?)+",
        rf"\b(?:[A-Z]\.[ \t]*)*{_NAME}(?:[ \t]+(?:[A-Z]\.|{_NAME}))*(?:[ \t]+(?:M\.?D|MBBS|FRCR)|,[ \t]*"
        r"(?:M\.?D|D\.?O|MBBS|FRCR|RN|NP|PA-C))\b\.?",
        r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
        r"\(?\b\d{3}\)?[-. ]{1,2}\d{3}[-. ]\d{4}\b|\b\d{3}-\d{2}-\d{4}\b",
        r"\b(?:19|20)\d\d([-/.])[01]?\d\1[0-3]?\d\b|\b[0-3]?\d([-/.])[0-3]?\d\2(?:19|20)?\d\d\b",
        rf"\b{_MONTH}[ \t]+[0-3]?\d(?:st|nd|rd|th)?,?[ \t]+(?:19|20)\d\d\b|\b[0-3]?\d(?:st|nd|rd|th)?[ \t-]+{_MONTH}"
        r"[ \t,-]+(?:19|20)\d\d\b|\b(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\b",
    )
)
_TITLED = re.compile(
    rf"\b((?:Mr|Mrs|Ms|Miss|Dr|Prof|Doctor)\b\.?|(?:MR|MRS|MS|DR)\.)[ \t]+(?:[A-Z]\.[ \t]*)*{_NAME}(?:[ \t]+{_NAME})*"
)
#: Ages above 89 are rare enough to tell who it is.
_OLD = re.compile(r"(?i)\b(?:9\d|1[01]\d)(?=[ -]*(?:years?|yrs?|y/?o|yo)\b)")
_WORD = re.compile(r"[^\W\d_]+")
_BROKEN_WORD = re.compile(r"([^\W\d_]+)-[ \t]*\n\s*([^\W\d_]+)")
_SPACED_LETTERS = re.compile(r"\b(?:[^\W\d_][ \t]+){2,}[^\W\d_]\b")
_RUN_OF_MARKS = re.compile(rf"{REMOVED_SPAN}(?:[\s,.;:/'-]*{REMOVED_SPAN})+")


@dataclass(frozen=True)
class Identity:
    """What is known of whose film it is.

    Args:
        names: of the patient, physicians and others, as written; parts are parted by "^", commas or spaces.
        ids: numbers of any kind; also dates as digits, of which the year is searched for too.
        phrases: searched for as a whole.
    """

    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()

    @cached_property
    def words(self) -> frozenset[str]:
        """Parts of names and ids without digits, folded."""
        parts = [word for name in self.names for word in _WORD.findall(name) if len(word) > 1]
        parts += [value for value in self.ids if value.isalpha() and len(value) >= _SHORTEST_ID]
        return frozenset(form for part in parts for form in _folded(part))

    @cached_property
    def patterns(self) -> tuple[re.Pattern, ...]:
        """What finds ids, numbers of their form, and phrases."""
        found = {pattern for value in self.ids for pattern in _id_patterns(value)}
        found |= {r"\s+".join(map(re.escape, phrase.split())) for phrase in self.phrases if len(phrase) >= 6}
        return tuple(re.compile(pattern, re.IGNORECASE) for pattern in sorted(found, key=len, reverse=True))


def identity_of(header: dict[str, str], row: dict[str, str], columns: Iterable[str], ids: Iterable[str]) -> Identity:
    """What header fields (`HEADER_NAMES`, ...), a table's row and ids tell.

    Args:
        row: a row of the table; its columns count whose name says that they hold names, ids or birth dates.
        columns: further columns that hold names or ids.
        ids: of patient, study and film as the table or the files give them.
    """
    columns = set(columns)
    names = [header.get(name, "") for name in HEADER_NAMES]
    names += [value for name, value in row.items() if name in columns or _NAME_COLUMN.search(name)]
    numbers = [header.get(name, "") for name in HEADER_IDS]
    numbers += [value for name, value in row.items() if name in columns or _ID_COLUMN.search(name)]
    values = [part.strip() for value in (*numbers, *ids) for part in re.split(r"['\[\],\\]", value)]
    phrases = [header.get(name, "") for name in HEADER_PHRASES]
    return Identity(tuple(filter(None, names)), tuple(filter(None, values)), tuple(filter(None, phrases)))


def without_identity(text: str, identity: Identity) -> str:
    """The text with `REMOVED_SPAN` for all that is known to tell, or looks as if it told, whose it is.

    If no word is left, it is empty.

    Raises:
        DataError: parts of a known name or id are still there, such as the letters of a name with spaces between them.
    """
    text = _BROKEN_WORD.sub(lambda word: _unbroken_name(word, identity.words), text)
    for pattern in (*_FORMS, *identity.patterns):
        text = pattern.sub(REMOVED_SPAN, text)
    text = _without_names(_TITLED.sub(rf"\1 {REMOVED_SPAN}", text), identity.words)
    text = _RUN_OF_MARKS.sub(REMOVED_SPAN, _OLD.sub("90", text)).strip()
    if _is_left(text, identity):
        raise DataError(
            "the report holds a name that header or table know, in a form that is not safely removed: mend the text",
            "report may tell who the patient is",
        )
    return text if _WORD.search(text.replace(REMOVED_SPAN, "")) else ""


def tells_identity(text: str) -> bool:
    """Whether the text holds something that looks as if it told whose it is: a form such as MRN 12345, a date, an
    e-mail address, a signature, a name after a title."""
    return any(form.search(text) for form in (*_FORMS, _TITLED))


def _unbroken_name(word: re.Match, names: frozenset[str]) -> str:
    """The word without the hyphen at the line's end, if it is a name then."""
    whole = word[1] + word[2]
    return whole if _folded(whole) & names else word[0]


def _is_left(text: str, identity: Identity) -> bool:
    """Whether a whole name is still there, without or with other things between its letters."""
    if any(_folded("".join(run.split())) & identity.words for run in _SPACED_LETTERS.findall(text)):
        return True
    letters = "".join(_WORD.findall(text)).casefold()
    for name in identity.names:
        parts = _WORD.findall(name.casefold())
        whole = ("".join(parts), "".join(reversed(parts)))
        if len(parts) > 1 and len(whole[0]) >= _SHORTEST_WHOLE_NAME and any(word in letters for word in whole):
            return True
    return False


def _without_names(text: str, names: frozenset[str]) -> str:
    """The text without words that are parts of `names`; common ones only beside another part or after a title."""
    if not names:
        return text
    words = list(_WORD.finditer(text))
    is_name = [bool(_folded(word[0]) & names) for word in words]
    written, end = [], 0
    for number, word in enumerate(words):
        if not is_name[number]:
            continue
        neighbours = [n for n in (number - 1, number + 1) if 0 <= n < len(words) and _touch(text, words, n, number)]
        beside_name = any(is_name[n] and word[0][0].isupper() and words[n][0][0].isupper() for n in neighbours)
        after_title = number - 1 in neighbours and words[number - 1][0].lower() in _TITLES
        is_word = word[0].lower() in _COMMON or (len(word[0]) < 3 and word[0].islower())
        if is_word and not (beside_name or after_title):
            continue
        written += [text[end : word.start()], REMOVED_SPAN]
        end = word.end()
    return "".join(written) + text[end:]


def _touch(text: str, words: list[re.Match], place: int, neighbour: int) -> bool:
    first, second = sorted((place, neighbour))
    return re.fullmatch(r"[ \t,.^'’-]{1,3}", text[words[first].end() : words[second].start()]) is not None


def _folded(word: str) -> set[str]:
    """The word in small letters without accents, German umlauts also as two letters."""
    word = word.casefold()
    spelled = word.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue").replace("ø", "oe")
    return {
        "".join(c for c in unicodedata.normalize("NFKD", form) if not unicodedata.combining(c))
        for form in (word, spelled)
    }


def _id_patterns(value: str) -> list[str]:
    """Regular expressions for an id with other or no separators and leading zeros, and for numbers of its form."""
    runs = re.findall(r"\d+|[A-Za-z]+", value)
    digits = "".join(run for run in runs if run.isdigit())
    if not digits or sum(map(len, runs)) < _SHORTEST_ID:
        return []
    begin, end = r"(?<![A-Za-z0-9.])", r"(?![A-Za-z0-9])"
    if all(run.isdigit() for run in runs):
        patterns = []
        if len(digits.lstrip("0")) > _SHORTEST_ID:
            patterns.append(begin + "(?:0+[ ./-]?)?" + r"[ ./-]?".join(digits.lstrip("0")) + end)
        if len(runs) == 1 and len(digits) >= 6:
            patterns.append(rf"{begin}\d{{{len(digits)}}}{end}")
        # A birth date; its year alone tells too.
        if re.fullmatch(r"(?:19|20)\d{6}", digits):
            patterns.append(rf"{begin}{digits[:4]}{end}")
        return patterns
    patterns = [begin + r"[\s._/-]*".join(runs) + end]
    if len(digits) >= 4 and len(runs) == 2 and runs[1].isdigit():
        patterns.append(rf"{begin}{runs[0]}[\s._/-]*\d{{{len(digits)}}}{end}")
    return patterns

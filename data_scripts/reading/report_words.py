"""What the words of a report tell before anybody reads it: whether it says anything, and whether it is in English."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+")
#: Whole texts, in small letters and without marks, that stand where a report is not (yet).
_NO_REPORT = re.compile(
    r"""
    (?:(?:the|a|final|official|formal|radiology)\ )*
    (?:(?:report|reading|interpretation|dictation|transcription)\ (?:is\ )?)?
    (?:pending|to\ follow|awaited|in\ progress|unavailable|dictated|not\ (?:yet\ )?(?:available|dictated|transcribed))
    |
    (?:please\ )?(?:see|refer\ to|as\ per)(?:\ (?:the|full|final|separate|attached|scanned|official|other|dictated|ct))*
    \ (?:report|dictation|document|attachment|attached|above|below|notes?|pacs)(?:\ in\ pacs)?
    |
    (?:no|without)(?:\ (?:formal|written|official))?\ (?:report|reading|dictation)
    (?:\ (?:available|issued|provided|found|dictated|given))?
    |
    not\ (?:formally\ )?reported|unreported|reported\ elsewhere|as\ above
    |
    (?:test|testing|void|voided|cancelled|canceled|deleted|draft|dummy|error|entered\ in\ error|duplicate)(?:\ report)?
    """,
    re.VERBOSE,
)
#: Frequent in English reports and, as whole words, in those of no other language.
_ENGLISH = frozenset(
    (
        *("the", "and", "are", "with", "there", "without", "has", "not", "this", "that", "seen", "been", "were"),
        *("which", "left", "right", "both", "lung", "lungs", "heart", "size", "clear", "chest", "within", "limits"),
        *("unchanged", "evidence", "since"),
    )
)
#: Fewer words may be names of findings alone, which many languages share.
ENOUGH_WORDS = 8
#: More of the reports than this, and it is not chance (of Open-I's English reports 3 in 496 look foreign).
FOREIGN_SHARE = 0.05
#: The first letter after Latin ones with all their accents.
_BEYOND_LATIN = "\u0250"


def says_nothing(text: str) -> bool:
    """Whether a text has no letter ("." or "---"), or says no more than that there is no report ("see dictation")."""
    words = _WORD.findall(text.lower())
    return not words or _NO_REPORT.fullmatch(" ".join(words)) is not None


def looks_foreign(text: str) -> bool:
    """Whether a text of `ENOUGH_WORDS` or more has none of the most frequent words of English reports, or is mostly in
    other letters than Latin ones.
    """
    words = _WORD.findall(text.lower())
    letters = "".join(words)
    latin = sum(letter < _BEYOND_LATIN for letter in letters)
    return latin < len(letters) / 2 or (len(words) >= ENOUGH_WORDS and _ENGLISH.isdisjoint(words))

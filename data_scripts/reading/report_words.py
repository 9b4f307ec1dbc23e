"""What the words of a report tell before anybody reads it: whether it says anything, and whether it is in English."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+")
#: Texts, in small letters and without marks, that stand where a report is not (yet).
_NO_REPORT = re.compile(
    r"""
    (?:(?:the|this|a|final|preliminary|official|formal|radiology|radiologist)\ )*
    (?:(?:report|reading|interpretation|dictation|transcription)\ (?:is\ )?)?
    (?:pending|to\ follow|awaited|in\ progress|unavailable|dictated|not\ (?:yet\ )?(?:available|dictated|transcribed))
    |
    (?:pending|awaiting)(?:\ (?:the|final|official|radiology))*\ (?:report|reading|dictation|transcription)
    |
    to\ be\ (?:reported|dictated|read|announced|determined)|tb[ad]|n\ a|x{2,}
    |
    (?:please\ )?(?:see|refer\ to|as\ per)
    (?:\ (?:the|full|final|separate|attached|scanned|official|radiology|other|dictated|ct))*
    \ (?:report|dictation|document|attachment|attached|above|below|notes?|pacs)(?:\ in\ pacs)?
    |
    (?:please\ )?(?:see|refer\ to|as\ per|as\ in)(?:\ the)?\ (?:impressions?|findings|conclusion|opinion|summary)
    (?:\ (?:section|above|below))*
    |
    (?:no|without)(?:\ (?:formal|written|official|radiology))?\ (?:report|reading|dictation)
    (?:\ (?:available|issued|provided|found|dictated|given|on\ file))?
    |
    not\ (?:formally\ )?reported|unreported|reported\ elsewhere|as\ above
    |
    (?:test|testing|void|voided|cancelled|canceled|deleted|draft|dummy|error|entered\ in\ error|duplicate)(?:\ report)?
    |
    (?:report|exam|examination|study)\ (?:was\ )?(?:cancelled|canceled|voided|deleted)
    |
    (?:siehe|s)\ (?:befund|diktat|bericht|anhang|pacs|ris)|(?:befund|diktat|bericht)\ (?:folgt|ausstehend|steht\ aus)
    |
    (?:voir|cf)\ (?:le\ )?(?:cr|compte\ rendu|rapport)|(?:cr|compte\ rendu|rapport)\ (?:en\ attente|à\ (?:suivre|venir))
    |
    ver\ (?:el\ )?informe|informe\ pendiente|pendiente\ de\ informe|vedi\ referto|referto\ in\ (?:corso|attesa)
    """,
    re.VERBOSE,
)
#: Headers of sections, which say nothing without what stands below them.
_HEADERS = frozenset(("findings", "impression", "befund", "beurteilung"))
_END_OF_SENTENCE = re.compile(r"[.:;]+(?:\s|$)|\n")
#: Frequent in English reports and, as whole words, in those of no other language.
_ENGLISH = frozenset(
    (
        *("the", "and", "are", "with", "there", "without", "has", "not", "this", "that", "seen", "been", "were"),
        *("which", "left", "right", "both", "lung", "lungs", "heart", "size", "clear", "chest", "within", "limits"),
        *("unchanged", "evidence", "since", "or", "disease", "cardiac", "pulmonary", "cardiopulmonary", "abnormality"),
        *("effusions", "opacities", "opacity", "airspace", "enlarged", "upper", "lower", "lobe", "above", "below"),
    )
)
#: Fewer words may be names of findings alone, which many languages share.
ENOUGH_WORDS = 8
_FOREIGN_SHARE = 0.05
#: The first letter after Latin ones with all their accents.
_BEYOND_LATIN = "\u0250"


def says_nothing(text: str) -> bool:
    """Whether a text has no letter ("." or "---"), or each of its sentences says no more than that there is no report
    ("see dictation") or is the header of a section.
    """
    return _is_silent(text) or all(map(_is_silent, _END_OF_SENTENCE.split(text)))


def _is_silent(text: str) -> bool:
    words = " ".join(_WORD.findall(text.lower()))
    return not words or words in _HEADERS or _NO_REPORT.fullmatch(words) is not None


def looks_foreign(text: str) -> bool:
    """Whether a text of `ENOUGH_WORDS` or more has none of the most frequent words of English reports, or is mostly in
    other letters than Latin ones.
    """
    words = _WORD.findall(text.lower())
    letters = "".join(words)
    latin = sum(letter < _BEYOND_LATIN for letter in letters)
    return latin < len(letters) / 2 or (len(words) >= ENOUGH_WORDS and _ENGLISH.isdisjoint(words))


def are_foreign(foreign: int, reports: int) -> bool:
    """Whether so many of the reports look foreign that it is not chance: of 496 English impressions of Open-I 2 do."""
    return foreign > _FOREIGN_SHARE * reports

"""Findings of an English report: present, absent or uncertain, from phrases and their scopes.

A report is cut into sentences. In a sentence, every phrase of a finding is a mention: absent where a denial reaches
it ("no effusion or pneumothorax", "effusion has resolved"), uncertain where a doubt does, and present otherwise.
Denials reach forward over lists and end at words such as "but"; those that follow a finding reach back to the verb
before. In a report, present outweighs uncertain, and uncertain absent. All functions are pure; sentences repeat between
reports, so their outcomes are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from data_scripts.extraction import phrases
from data_scripts.schema import Label

PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
#: Which statement of several counts.
_WEIGHT = {PRESENT: 2, UNCERTAIN: 1, ABSENT: 0}
NO_FINDING = "No Finding"
#: All findings that can be told, in the order of the tables.
FINDING_NAMES = (NO_FINDING, *phrases.FINDINGS)
#: What `present_abnormalities` can tell.
ABNORMALITY_NAMES = (*phrases.FINDINGS, *phrases.OTHER_ABNORMALITIES)
#: Says nothing about health.
_DEVICES = "Support Devices"

#: A full stop ends a sentence even where the space after it is missing, but not within numbers or "e.g.". So do numbers
#: of a list, bullets, dashes between clauses, and the line ends that `_keep_line_ends` leaves.
_SENTENCE_END = re.compile(
    # First what may begin an end at all: most characters may not, which saves trying the rest.
    r"(?=[\d.!?;\s*\u2022\u00b7\u2013\u2014-])(?:"
    r"(?:(?<![\w.])|(?<=[a-z)]\.))\d{1,2}[.)](?:\s|(?=[a-z]))|[.!?](?=\s|$)|(?<=[a-z)]{2})\.(?=[a-z]{2}|\d{1,2}[.)])"
    r"|;|\n|(?:^|\s)(?:[-*\u2022\u00b7\u2013\u2014]+|--+)(?=\s))"
)
_BULLET = re.compile(r"\s*(?:[-*\u2022\u00b7\u2013\u2014+>]|\d{1,2}[.)]|[a-z][.)]\s)", re.IGNORECASE)
#: After these, or before them, a sentence goes on in the next line.
_JOINING = re.compile(
    r"a|an|the|of|or|and|nor|with|without|no|not|in|on|at|to|for|from|by|is|are|was|were|be|been|has|have|had|may|might"
    r"|could|can|which|that|as|than|into|over|under|near|between|within|this|these|those|but|versus|vs|its|their"
)
#: "Pneumothorax - none": a dash before a bare denial stands for a colon.
_DASHED_DENIAL = re.compile(r"\s[-\u2013\u2014]+\s(?=(?:no|none|nil|absent|negative)\s*(?:[.;\n]|$))")
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_COLON_WITHOUT_SPACE = re.compile(r"(?<=[a-z]):(?=[a-z])")
#: Up to five words, of one clause: what follows "with" or "but" is said of something else.
_GAP = r"(?: (?!(?:with|without|but|however|although)\b)[^ ,]+){0,5}? "


def _compile(phrase: str) -> str:
    """The regular expression of a phrase in the notation of `phrases`."""
    pattern, joint = "", ""
    for word in phrase.split(" "):
        if word in ("^", "$"):
            pattern, joint = pattern + word, ""
            continue
        if word == "~":
            joint = _GAP
            continue
        choices = "|".join(re.escape(choice).replace(r"\*", r"\w*") for choice in word.rstrip("?").split("|"))
        if not word.endswith("?"):
            pattern += f"{joint}(?:{choices})"
            joint = " "
        elif pattern:
            pattern += f"(?:{joint}(?:{choices}))?"
            joint = " "
        else:
            pattern = f"(?:(?:{choices}) )?"
    begin, end = ("" if pattern.startswith("^") else r"\b"), ("" if pattern.endswith("$") else r"\b")
    return f"{begin}{pattern}{end}"


def _any_of(table: Iterable[str]) -> re.Pattern:
    return re.compile("|".join(_compile(phrase) for phrase in table))


def _stems(phrase: str) -> tuple[str, ...]:
    """What a sentence must hold for the phrase to fit: the choices of its longest word."""
    words = [word.split("|") for word in phrase.split(" ") if word != "~" and not word.endswith("?")]
    return tuple(choice.rstrip("*") for choice in max(words, key=lambda choices: min(map(len, choices))))


class _Phrase(NamedTuple):
    """A phrase ready for use: what it says of which findings."""

    findings: tuple[str, ...]
    value: int
    stems: tuple[str, ...]
    pattern: re.Pattern


class Mention(NamedTuple):
    """A finding in a sentence, from character `start` to `end`."""

    finding: str
    value: int
    start: int
    end: int


class _Cue(NamedTuple):
    """Words that deny or doubt, and how far they reach: mentions that end in [`first`, `last`]."""

    start: int
    first: int
    last: int


def _ready(phrase: str, findings: tuple[str, ...], value: int) -> _Phrase:
    return _Phrase(findings, value, _stems(phrase), re.compile(_compile(phrase)))


_PHRASES = [
    *(_ready(phrase, (name,), PRESENT) for name, table in phrases.FINDINGS.items() for phrase in table),
    *(_ready(phrase, (name,), UNCERTAIN) for phrase, name in phrases.BORDERLINE.items()),
    *(_ready(phrase, names, ABSENT) for phrase, names in phrases.NORMAL.items()),
]
#: Stems of words by their first two letters, each with the number of a phrase that needs it: most phrases need not be
#: tried on a sentence.
_STEMS: dict[str, list[tuple[str, int]]] = {}
for _number, _phrase in enumerate(_PHRASES):
    for _stem in _phrase.stems:
        _STEMS.setdefault(_stem[:2], []).append((_stem, _number))
_WORD = re.compile(r"\w+")
_EXCEPTIONS = {finding: _any_of(table) for finding, table in phrases.EXCEPTIONS.items()}
_NO_FINDINGS_AT_ALL = _any_of(phrases.NO_FINDINGS_AT_ALL)
_OTHER_ABNORMALITIES = {name: _any_of(table) for name, table in phrases.OTHER_ABNORMALITIES.items()}
_ALL_IS_WELL, _NOT_WELL = _any_of(phrases.ALL_IS_WELL), _any_of(phrases.NOT_WELL)
_NOT_DENIALS = _any_of(phrases.NOT_DENIALS)
_DENIED_AFTER, _DENIED_BEFORE = _any_of(phrases.DENIED_AFTER), _any_of(phrases.DENIED_BEFORE)
_DOUBTED_AFTER, _DOUBTED_BEFORE = _any_of(phrases.DOUBTED_AFTER), _any_of(phrases.DOUBTED_BEFORE)
_NOT_JUDGED_AFTER = _any_of(phrases.NOT_JUDGED_AFTER)
_DOUBT_END = re.compile(
    f"{_any_of(phrases.SCOPE_ENDS).pattern}|:|, (?:and )?{_any_of(phrases.SCOPE_ENDS_AFTER_COMMA).pattern}"
)
_DENIAL_END = re.compile(f"{_DOUBT_END.pattern}|{_any_of(phrases.DENIAL_ENDS).pattern}")
_DOUBT_END = re.compile(f"{_DOUBT_END.pattern}|{_any_of(phrases.DOUBT_ENDS).pattern}")
#: Backwards, a denial or doubt reaches to the verb before its own.
_SCOPE_BEGIN = re.compile(rf"{_any_of(phrases.SCOPE_ENDS).pattern}|\b(?:is|are|was|were|has|have|had)\b")
_OWN_VERB = re.compile(r"\b(?:is|are|was|were|has|have|had|appears?)(?: been)? (?:\w+ )?$")
_ALTERNATIVE = re.compile(r"(?: [^ ,]+){0,3},? (?:or|versus|vs) (?:[^ ,]+ ){0,4}")


def extract_findings(text: str) -> dict[str, int]:
    """The findings that a report speaks of: 1 present, 0 absent, -1 uncertain.

    "No Finding" is 0 where anything but devices is present or uncertain, be it one of the findings or another
    abnormality (free air, a cavity, an aneurysm), and 1 where nothing is and the text says that all is well or denies
    something; it is not given where neither is said.
    """
    found: dict[str, int] = {}
    sentences = split_sentences(text)
    for sentence in sentences:
        for finding, value in judge_sentence(sentence):
            if finding not in found or _WEIGHT[value] > _WEIGHT[found[finding]]:
                found[finding] = value
    values = [value for name, value in found.items() if name != _DEVICES]
    if values or any(map(_is_well, sentences)):
        all_absent = all(value == ABSENT for value in values)
        found[NO_FINDING] = int(all_absent and not any(map(tells_other_abnormality, sentences)))
    return found


def _is_well(sentence: str) -> bool:
    sentence = _blot(_NOT_WELL, _blot(_NOT_DENIALS, sentence))
    return _ALL_IS_WELL.search(sentence) is not None


def report_text(findings: str, impression: str) -> str:
    """The sections of a report as they are read: a sentence does not go on from one into the other."""
    return f"{findings}\n\n{impression}"


def report_labels(text: str) -> list[Label]:
    """`extract_findings` as labels in the order of `FINDING_NAMES`."""
    found = extract_findings(text)
    return [Label(name, found[name]) for name in FINDING_NAMES if name in found]


def split_sentences(text: str) -> list[str]:
    """Sentences in small letters with single spaces; hyphens become spaces, a slash becomes "or".

    Lines that were only wrapped are joined; bullets, numbers of a list, dashes between clauses and the ends of lines
    that say something of their own end a sentence.
    """
    text = _LINE_BREAK.sub(" ", text)
    text = _keep_line_ends(text) if "\n" in text else text
    text = text.lower().replace("w/o", "without").replace("r/o", "rule out").replace("and/or", "or")
    text = _COLON_WITHOUT_SPACE.sub(": ", _DASHED_DENIAL.sub(": ", text))
    parts = _SENTENCE_END.split(text)
    return [" ".join(part.replace("-", " ").replace("/", " or ").split()) for part in parts if part.strip()]


def _keep_line_ends(text: str) -> str:
    """The text with the ends of those lines alone at which a sentence ends; wrapped lines are joined."""
    lines = text.split("\n")
    width, cased = max(map(len, lines)), not (text.isupper() or text.islower())
    joined = lines[0]
    for before, line in pairwise(lines):
        joined += ("\n" if _ends_at(before.rstrip(), line.lstrip(), width, cased) else " ") + line
    return joined


def _ends_at(before: str, line: str, width: int, cased: bool) -> bool:
    """Whether a sentence ends between two lines, of a text whose longest line has `width` characters.

    Args:
        cased: whether the text has capital and small letters, so that a capital tells a beginning.
    """
    if not before or not line or _BULLET.match(line):
        return True
    last, first = before.split()[-1], line.split()[0]
    if last.endswith(",") or _JOINING.fullmatch(last.lower()) or (cased and first[0].islower()):
        return False
    if cased and first[0].isupper() and not first.isupper():
        return True
    # Capital letters throughout, or an abbreviation: the line was not wrapped if the word would have fitted.
    return not _JOINING.fullmatch(first.lower()) and len(before) + 1 + len(first) <= width


@lru_cache(maxsize=1 << 16)
def judge_sentence(sentence: str) -> tuple[tuple[str, int], ...]:
    """The findings that a sentence of `split_sentences` names, and what it says of them, in its order."""
    sentence = _blot(_NO_FINDINGS_AT_ALL, sentence)
    mentions = find_mentions(sentence)
    if not mentions:
        return ()
    cues = _find_cues(sentence)
    valued = [mention._replace(value=_mention_value(mention, cues)) for mention in mentions]
    return tuple(
        (mention.finding, mention.value)
        for mention in _doubt_alternatives(valued, sentence)
        if mention.value is not None
    )


@lru_cache(maxsize=1 << 16)
def judge_other_abnormalities(sentence: str) -> tuple[tuple[str, int], ...]:
    """What a sentence names that is abnormal and none of the findings, and what it says of it: 1, 0 or -1."""
    sentence = _blot(_NO_FINDINGS_AT_ALL, sentence)
    mentions = [
        Mention(name, PRESENT, *match.span())
        for name, pattern in _OTHER_ABNORMALITIES.items()
        for match in pattern.finditer(sentence)
    ]
    if not mentions:
        return ()
    cues = _find_cues(sentence)
    valued = ((mention.finding, _mention_value(mention, cues)) for mention in mentions)
    return tuple((name, value) for name, value in valued if value is not None)


def tells_other_abnormality(sentence: str) -> bool:
    """Whether a sentence asserts, or thinks possible, something abnormal that has no name among the findings."""
    return any(value in (PRESENT, UNCERTAIN) for _, value in judge_other_abnormalities(sentence))


def present_abnormalities(text: str) -> set[str]:
    """What a report says is there: of `ABNORMALITY_NAMES`, findings but "No Finding" and other abnormalities."""
    found = {name for name, value in extract_findings(text).items() if value == PRESENT and name != NO_FINDING}
    for sentence in split_sentences(text):
        found |= {name for name, value in judge_other_abnormalities(sentence) if value == PRESENT}
    return found


def _find_cues(sentence: str) -> dict[str, list[_Cue]]:
    """What denies, doubts or only asks for the mentions of a sentence."""
    denials = _blot(_NOT_DENIALS, sentence)
    return {
        "denied": [*_forward(_DENIED_AFTER, _DENIAL_END, denials), *_backward(_DENIED_BEFORE, denials)],
        "doubted": [*_forward(_DOUBTED_AFTER, _DOUBT_END, denials), *_backward(_DOUBTED_BEFORE, denials)],
        "not judged": list(_forward(_NOT_JUDGED_AFTER, _DOUBT_END, sentence)),
    }


def find_mentions(sentence: str) -> list[Mention]:
    """All mentions of findings in the order of their ends, before denials and doubts."""
    candidates = {number for word in set(_WORD.findall(sentence)) for number in _phrases_of(word)}
    mentions = [
        Mention(name, _PHRASES[number].value, *match.span())
        for number in sorted(candidates)
        for match in _PHRASES[number].pattern.finditer(sentence)
        for name in _PHRASES[number].findings
    ]
    kept = (
        mention for mention in mentions if not (_is_exception(mention, sentence) or _is_stretched(mention, mentions))
    )
    return sorted(kept, key=lambda mention: (mention.end, mention.start))


@lru_cache(maxsize=1 << 16)
def _phrases_of(word: str) -> tuple[int, ...]:
    """Numbers of the phrases that need the word."""
    return tuple(number for stem, number in _STEMS.get(word[:2], ()) if word.startswith(stem))


def _is_exception(mention: Mention, sentence: str) -> bool:
    pattern = _EXCEPTIONS.get(mention.finding)
    return pattern is not None and any(
        match.start() < mention.end and mention.start < match.end() for match in pattern.finditer(sentence)
    )


def _is_stretched(mention: Mention, mentions: list[Mention]) -> bool:
    """Whether a shorter mention within says the opposite: "heart normal" in "heart normal with enlarged aorta"."""
    return any(
        shorter.finding == mention.finding
        and shorter.value != mention.value
        and mention.start <= shorter.start
        and shorter.end <= mention.end
        for shorter in mentions
    )


def _blot(pattern: re.Pattern, sentence: str) -> str:
    """The sentence with whatever fits made illegible, of the same length."""
    return pattern.sub(lambda match: "#" * len(match[0]), sentence)


def _forward(pattern: re.Pattern, scope_end: re.Pattern, sentence: str) -> Iterable[_Cue]:
    for match in pattern.finditer(sentence):
        end = scope_end.search(sentence, match.end())
        yield _Cue(match.start(), match.end() + 1, len(sentence) if end is None else end.start())


def _backward(pattern: re.Pattern, sentence: str) -> Iterable[_Cue]:
    for match in pattern.finditer(sentence):
        verb = _OWN_VERB.search(sentence, 0, match.start())
        start = match.start() if verb is None else verb.start()
        begin = max((scope.end() for scope in _SCOPE_BEGIN.finditer(sentence, 0, start)), default=0)
        yield _Cue(start, begin, start)


def _mention_value(mention: Mention, cues: dict[str, list[_Cue]]) -> int | None:
    """What becomes of a mention: its value, or None where nobody judged it."""
    starts = {
        kind: min((cue.start for cue in given if cue.first <= mention.end <= cue.last), default=None)
        for kind, given in cues.items()
    }
    if starts["not judged"] is not None:
        return None
    if mention.value == ABSENT:
        # "Not normal" does not say which finding it is.
        return ABSENT if starts["denied"] is None and starts["doubted"] is None else None
    denied, doubted = starts["denied"], starts["doubted"]
    if denied is not None and (doubted is None or denied < doubted):
        return ABSENT
    return mention.value if doubted is None else UNCERTAIN


def _doubt_alternatives(mentions: list[Mention], sentence: str) -> list[Mention]:
    """ "Atelectasis or pneumonia": one of them is there, both are uncertain."""
    doubted = set()
    for left in mentions:
        for right in mentions:
            differ = left.finding != right.finding and left.value == right.value == PRESENT
            if differ and left.end < right.start and _ALTERNATIVE.fullmatch(sentence, left.end, right.start):
                doubted |= {left, right}
    return [mention._replace(value=UNCERTAIN) if mention in doubted else mention for mention in mentions]

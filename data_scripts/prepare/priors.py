"""Comparisons with earlier films taken out of English report text: a model that sees one film cannot learn them.

Models trained on such text write of films that do not exist; CXR-ReDonE (arXiv 2210.06340) takes the references out
of MIMIC-CXR with a language model. Here that is done by rules of our own, a sentence at a time: phrases go ("compared
to the prior study", "again seen", "unchanged"), a finding that is only said to have changed is said to be seen, and a
sentence that tells a change alone is left out. A sentence is left as it was written where the rules would lose a
finding, by `data_scripts.extraction`, or turn one round, or leave half a sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from data_scripts.extraction import judge_sentence, split_sentences
from data_scripts.schema import Record, Skipped

#: What becomes of a sentence that speaks of earlier films.
CHANGED, LEFT_OUT, KEPT = "changed", "left out", "kept"
#: Origins of text that somebody wrote about a film.
_WRITTEN = ("radiologist", "note", "translation")
_SPLIT = re.compile(r"(?<=[.!?])(?<!\d\.)(?<!\bDr\.)(?<!\bvs\.)\s+")
_EXAM = r"(?:stud(?:y|ies)|exam(?:ination)?s?|films?|(?:radio)?graphs?|x-?rays?|cts?|images?|imaging|scans?)\b"
_DATE = r"(?:_{3}|X{4,}|\d{1,4}[/-]\d{1,2}(?:[/-]\d{1,4})?)"
#: Within a comparison, what tells that it is with another film and not with the other side.
_EARLIER = re.compile(
    rf"\b(?:prior|previous|earlier|preceding|comparison|last|most recent|yesterday)\b|\b{_EXAM}|{_DATE}", re.IGNORECASE
)
_TO_COMMA = r"[^,;]*?(?=[,;]|$)"
_PLACE = r"(?:the |her |his |a |an )?(?:(?:most )?recent |immediate(?:ly)? )?(?:prior|previous|earlier|preceding|last)"
_DEGREE = r"(?:(?:very|slight|mild|minimal|moderate|marked|significant|substantial|further|overall|gross|relative|large"
_DEGREE += r"|essential|interval|not)(?:ly)? )*"
_ADJECTIVE = r"(?:unchanged|stable|unaltered|persist(?:ent|ing)|new|newly developed|worsen(?:ing|ed)|improv(?:ing|ed)"
_ADJECTIVE += r"|progressive|resolving|enlarging)"
_STABLE = r"(?:unchanged|stable|unaltered)"
#: Of the film before, after "is"; "is increased" and "is enlarged" may be said of one film.
_STATE = r"(?:unchanged|stable|unaltered|similar|persistent|the same|new|improv(?:ed|ing)|worsen(?:ed|ing)|progressed)"
_MOVED = r"(?:unchanged|stable|(?:in|de)creased|improved|worsened|progressed|enlarged|changed)"


def _compiled(*patterns: tuple[str, str]) -> list[tuple[re.Pattern, str]]:
    return [(re.compile(pattern, re.IGNORECASE), replacement) for pattern, replacement in patterns]


_COMPARED = re.compile(
    r",?\s*\b(?:(?:as|when|also) )?(?:compared|in comparison|(?:with )?comparison|relative|similar)"
    rf"(?: (?:is|was) made)? (?:to|with){_TO_COMMA}",
    re.IGNORECASE,
)
_SINCE = re.compile(
    rf",?\s*\b(?:since|from|over|as on|seen on|than(?: on)?) "
    rf"(?:{_PLACE}(?:\s*(?=[,;]|$)|(?: [\w/-]+){{0,4}}? {_EXAM}{_TO_COMMA})"
    rf"|{_DATE}{_TO_COMMA}|yesterday\b|the interval\b)",
    re.IGNORECASE,
)
_PHRASES = _compiled(
    (r",?\s*\bin the interval\b", ""),
    (rf"\bthere (?:has|have) been (?:an? )?{_DEGREE}(?:interval )?(?:development|appearance) of\b", "there is"),
    (rf"\b(?:an? )?{_DEGREE}interval (?:development|appearance|increase|enlargement|worsening|progression|improvement"
     r"|decrease|reduction)(?: in(?: the)? (?:size|extent))? (?:of|in)\b", ""),
    (r"^(?:once )?again (?:seen|noted|identified|demonstrated|visuali[sz]ed) (is|are)\b", r"there \1"),
    (r"\b(?:once )?again (?=seen|noted|identified|demonstrated|visuali[sz]ed)", ""),
    (r"\b(is|are) (?:once )?again\b", r"\1"),
    (r"^re-?demonstration of\b", ""),
    (r"\bre-?demonstrated\b", "seen"),
    (rf",?\s*\b(?:which|that) (?:(?:is|are|appears?|remains?) {_DEGREE}{_STATE}"
     rf"|(?:has|have)(?: been)? {_DEGREE}{_MOVED})\b(?: in [\w ]+)?", ""),
    (rf",?\s+(?:and|but) {_DEGREE}{_STABLE}\b(?: in [\w ]+)?", ""),
    (rf",\s*{_DEGREE}(?:{_STABLE}|similar)(?: in [\w ]+)?(?=[,;]|$)", ""),
    (rf"\b{_STABLE} and (?=within|normal)", ""),
    (r"\binterval (?:increased|decreased|worsened|improved|enlarged) (?=\w)", ""),
    (rf"\bthere (is|are) {_DEGREE}{_ADJECTIVE} (?=\w)", r"there \1 "),
    (rf"(?<!\bis )(?<!\bare )(?<!\bremains )(?<!\bremain )\b{_DEGREE}{_ADJECTIVE} "
     r"(?!in\b|and\b|or\b|from\b|with\b)(?=\w)", ""),
)  # fmt: skip
_NO_CHANGE = (
    r"\b(?:no|little|without)(?: (?:significant|relevant|appreciable|substantial|interval|definite|overall|major"
    r"|further|gross))* change\b"
)
#: Says nothing once the other film is gone.
_CHANGE_ALONE = re.compile(
    rf"\bno (?:[\w-]+ ){{0,3}}?(?:new|worsening|increasing|interval)\b|{_NO_CHANGE}"
    r"|\binterval (?:removal|resolution|clearing|extubation)\b"
    r"|\b(?:has|have)(?: \w+ly)?(?: been)? (?:resolved|cleared)\b"
    r"|^comparison\b|^compared\b|\bis compared\b",
    re.IGNORECASE,
)
_CHANGED = (
    re.compile(
        rf"^(?P<what>.+?),? (?:(?:is|are|remains?|appears?|was|were)(?: \w+ly)? {_DEGREE}{_STATE}"
        rf"|(?:has|have)(?: \w+ly)?(?: been| remained| appeared)?(?: \w+ly)? {_DEGREE}{_MOVED})\b.*$",
        re.IGNORECASE,
    ),
    re.compile(rf"^(?P<what>.+?),? {_DEGREE}{_STABLE}$", re.IGNORECASE),
    re.compile(
        rf"^(?:there (?:is|has been) )?{_NO_CHANGE} (?:in|of) (?:the )?(?:(?:size|appearance|position|extent)"
        r"(?: (?:or|and) \w+)? of (?:the )?)?(?P<what>.+)$",
        re.IGNORECASE,
    ),
)
#: The last word of half a sentence.
_UNFINISHED = re.compile(
    r"\b(?:is|are|was|were|has|have|been|also|and|or|but|with|the|an?|which|that|to|of|in|from|than|as|not)$",
    re.IGNORECASE,
)
_SPEAKS_OF_PRIORS = re.compile(
    rf"\b(?:again|re-?demonstrat\w+|interval|in comparison|compared|comparison|unchanged|stable|unaltered|persist\w+"
    r"|new(?:ly)?|worsen\w+|improv\w+|progress\w+|resolving|resolved|enlarging|than before)\b"
    rf"|\b{_PLACE}(?: [\w/-]+){{0,3}} {_EXAM}"
    rf"|\bsince {_DATE}|\b(?:has|have)(?: \w+ly)?(?: been)? (?:in|de)creased\b|{_NO_CHANGE}",
    re.IGNORECASE,
)


def drop_priors(
    outcomes: Iterable[Record | Skipped], may_be_empty: bool, counts: Counter
) -> Iterator[Record | Skipped]:
    """The records, those of English training reports that people wrote without comparisons; counted in `counts`.

    A report that holds nothing else is `Skipped`, or stays empty where it may be.
    """
    for record in outcomes:
        written = isinstance(record, Record) and record.split == "train" and record.report_origin in _WRITTEN
        if not written or record.language != "en":
            yield record
            continue
        before = record.report
        for section in ("findings", "impression"):
            text, found = without_priors(getattr(record, section))
            setattr(record, section, text)
            counts.update(found)
        if before and not record.report and not may_be_empty:
            reason = "the report compares with earlier films and says nothing else"
            yield Skipped(record.record_id, reason, "report of earlier films alone", on_request=True)
        else:
            counts["reports"] += record.report != before
            yield record


def without_priors(text: str) -> tuple[str, Counter]:
    """A section without its comparisons, its paragraphs as they were; and how many sentences became what."""
    counts: Counter = Counter()
    paragraphs = []
    for paragraph in text.split("\n"):
        sentences = [_sentence(sentence, counts) for sentence in _SPLIT.split(paragraph)]
        paragraphs.append(" ".join(sentence for sentence in sentences if sentence))
    if not (counts[CHANGED] or counts[LEFT_OUT]):
        return text, counts
    return "\n".join(paragraph for paragraph in paragraphs if paragraph), counts


def _sentence(sentence: str, counts: Counter) -> str:
    if not _SPEAKS_OF_PRIORS.search(sentence):
        return sentence
    rewritten = _rewritten(sentence)
    before, after = _findings(sentence), _findings(rewritten)
    loses = any(value == 1 and after.get(name) != 1 for name, value in before.items())
    turns = any(value != before.get(name, 0 if value == 1 else value) for name, value in after.items())
    if loses or turns or rewritten == sentence:
        counts[KEPT] += 1
        return sentence
    counts[CHANGED if rewritten else LEFT_OUT] += 1
    return rewritten


def _rewritten(sentence: str) -> str:
    """The sentence without its comparison, "" where nothing is left that the film shows."""
    number = re.match(r"(?:\d+[.)]\s*)?", sentence)[0]
    body, end = sentence[len(number) :].rstrip(".!? "), sentence[len(sentence.rstrip(".!? ")) :].strip() or "."
    for pattern in (_COMPARED, _SINCE):
        body = pattern.sub(lambda found: "" if _EARLIER.search(found[0]) else found[0], body)
    for pattern, replacement in _PHRASES if not _CHANGE_ALONE.search(body) else ():
        body = pattern.sub(replacement, body)
    body = " ".join(body.split()).strip(" ,;")
    changed = next((found for pattern in _CHANGED if (found := pattern.match(body))), None)
    if changed is not None:
        what = changed["what"]
        verb = "are" if re.search(r"(?<!s)s$| and ", what.split(" of ")[0]) else "is"
        body = f"{what} {verb} seen" if 1 in _findings(what).values() else ""
    if not body or _CHANGE_ALONE.search(body) or (len(body.split()) < 2 and not _findings(body)):
        return ""
    if _UNFINISHED.search(body):
        return sentence
    body = re.sub(r"\b([Aa])n (?=[b-df-hj-np-tv-z])", r"\1 ", body)
    return f"{number}{body[0].upper()}{body[1:]}{end}"


def _findings(text: str) -> dict[str, int]:
    return dict(pair for sentence in split_sentences(text) for pair in judge_sentence(sentence))

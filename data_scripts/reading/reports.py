"""Report text: sections tidied without loss, and text made from labels where a corpus has no reports.

Made text follows the categories of arXiv 2602.22843 ("pseudo-reports") with sentences of our own. A record's
sentences depend on its id and a seed alone, so that they do not change with the order or number of the rows.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from data_scripts.reading.labels import tells_normal
from data_scripts.schema import DataError, Label

_SENTENCES = {
    "positive": (
        "{} is present.",
        "There is {}.",
        "Findings are consistent with {}.",
        "The film shows {}.",
        "{} is seen.",
        "There are signs of {}.",
        "The appearance suggests {}.",
        "{} is noted.",
    ),
    "negative": (
        "No {}.",
        "There is no {}.",
        "No evidence of {}.",
        "No sign of {}.",
        "{} is absent.",
        "{} is not seen.",
        "The film is free of {}.",
    ),
    "uncertain": (
        "{} cannot be excluded.",
        "Possible {}.",
        "It is unclear whether there is {}.",
    ),
    "no finding": (
        "No abnormality is seen in the chest.",
        "The chest film is normal.",
    ),
}
_CATEGORY = {1: "positive", 0: "negative", -1: "uncertain"}
#: Labels whose name makes no sentence, with sentences of their own for some or all categories.
_OWN_SENTENCES = {
    "pleural other": {
        "positive": (
            "A pleural abnormality other than effusion or pneumothorax is present.",
            "The pleura is abnormal in another way.",
        ),
        "negative": (
            "The pleura shows no other abnormality.",
            "Apart from the above, the pleura is unremarkable.",
        ),
        "uncertain": (
            "Another pleural abnormality is possible.",
            "It is unclear whether the pleura is otherwise normal.",
        ),
    },
    "support devices": {
        "negative": (
            "No line, tube or other device is in place.",
            "There are no support devices.",
            "The film is free of medical devices.",
        ),
    },
}
_WORDING = {"support devices": "a support device"}

#: Spans taken out to protect patients: `___` in MIMIC-CXR, `XXXX` in Open-I.
_REMOVED_SPAN = re.compile(r"(?<![A-Za-z_])(?:X{4,}|_{3})(?![A-Za-z_])")
REMOVED_SPAN = "___"
#: Choices of `tidy_section`.
MARKS = ("keep", "unify")


def tidy_section(text: str, marks: str = "keep") -> str:
    """A section without its line wrapping: spaces within paragraphs collapse, blank lines part paragraphs.

    Nothing but white space changes under "keep", the default: every mark, number and abbreviation is what
    the radiologist wrote, and the published models were trained on such text. "unify" writes the marks of
    removed spans alike, so that a model trained on several corpora cannot tell them by their marks; a corpus has
    one kind of mark, so replacing `___` by it gives the text back.

    Raises:
        ValueError: an unknown choice of `marks`.
    """
    if marks not in MARKS:
        raise ValueError(f"deid_marks is {marks!r}, allowed: {MARKS}")
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n[^\S\n]*\n", text))
    tidied = "\n".join(paragraph for paragraph in paragraphs if paragraph)
    return _REMOVED_SPAN.sub(REMOVED_SPAN, tidied) if marks == "unify" else tidied


@dataclass
class ReportText:
    """Arguments of a loader whose corpus has reports."""

    deid_marks: str = field(
        default="keep",
        metadata={"help": "Marks of removed spans: keep as written, or unify to ___.", "choices": list(MARKS)},
    )

    def tidy(self, text: str) -> str:
        """`tidy_section` with these arguments."""
        return tidy_section(text, self.deid_marks)


def synthesise_report(
    labels: Sequence[Label],
    record_id: str,
    seed: int = 1,
    drop_negatives: int = 0,
) -> str:
    """One sentence a label, in the order of `labels`; a single sentence where nothing is found.

    The label "No Finding", or "Normal", never makes a sentence by itself. Without labels the text is empty.

    Args:
        labels: 1 present, 0 absent, -1 uncertain.
        drop_negatives: leave out so many absent findings, chosen at random, or all if there are fewer.

    Raises:
        DataError: a label has another value.
        ValueError: drop_negatives is negative.
    """
    if drop_negatives < 0:
        raise ValueError(f"drop_negatives is {drop_negatives}, it must be at least 0")
    chooser = random.Random(f"{seed}/{record_id}")
    normal = any(tells_normal(label.name) and label.value == 1 for label in labels)
    findings = [label for label in labels if not tells_normal(label.name)]
    if normal and all(label.value == 0 for label in findings):
        return chooser.choice(_SENTENCES["no finding"])
    negatives = [label.name for label in findings if label.value == 0]
    dropped = set(chooser.sample(negatives, min(drop_negatives, len(negatives))))
    return " ".join(_sentence(label, chooser) for label in findings if label.name not in dropped)


def _sentence(label: Label, chooser: random.Random) -> str:
    if label.value not in _CATEGORY:
        raise DataError(f"label {label.name!r} is {label.value!r}: a sentence needs one of {sorted(_CATEGORY)}")
    category = _CATEGORY[label.value]
    name = label.name.lower()
    sentences = _OWN_SENTENCES.get(name, {}).get(category, _SENTENCES[category])
    sentence = chooser.choice(sentences).format(_WORDING.get(name) or _in_sentence(label.name))
    return sentence[0].upper() + sentence[1:]


def _in_sentence(name: str) -> str:
    """A label's name within a sentence: small letters, but for abbreviations such as COPD."""
    return re.sub(
        r"[A-Za-z]+",
        lambda word: word[0] if word[0].isupper() and len(word[0]) > 1 else word[0].lower(),
        name.replace("_", " "),
    )

"""Report text made from labels, for corpora that have no reports (arXiv 2602.22843: "pseudo-reports").

The categories are the published ones; the sentences are our own. A record's sentences depend on its id and a seed
alone, so that the text does not change with the order or number of the rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from data_scripts.schema import Label

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
#: Labels whose plain name makes no sentence: the words to use instead.
_WORDING = {"Pleural Other": "another pleural abnormality", "Support Devices": "a support device"}


def synthesise_report(
    labels: Sequence[Label], record_id: str, seed: int = 1, max_negatives: int | None = None, no_finding="No Finding"
) -> str:
    """One sentence a label, in the order of `labels`; a single sentence where nothing is found.

    Args:
        labels: 1 present, 0 absent, -1 uncertain.
        max_negatives: keep at most so many absent findings, chosen at random (None: all).
        no_finding: the label that says that there is none; it never makes a sentence by itself.
    """
    chooser = random.Random(f"{seed}/{record_id}")
    normal = any(label.name == no_finding and label.value == 1 for label in labels)
    findings = [label for label in labels if label.name != no_finding]
    if normal and all(label.value == 0 for label in findings):
        return chooser.choice(_SENTENCES["no finding"])
    negatives = [label.name for label in findings if label.value == 0]
    if max_negatives is not None and len(negatives) > max_negatives:
        dropped = set(chooser.sample(negatives, len(negatives) - max_negatives))
        findings = [label for label in findings if label.name not in dropped]
    return " ".join(_sentence(label, chooser) for label in findings)


def _sentence(label: Label, chooser: random.Random) -> str:
    words = _WORDING.get(label.name, label.name.lower())
    sentence = chooser.choice(_SENTENCES[_CATEGORY[label.value]]).format(words)
    return sentence[0].upper() + sentence[1:]

"""Pairs of prompts: what a film with and without a finding would be described as."""

from __future__ import annotations

#: (positive, negative) templates by family. "published" is the pair of arXiv 2602.22843's evaluation.
PROMPT_FAMILIES: dict[str, tuple[str, str]] = {
    "published": ("{}", "no {}"),
    "report": ("There is {}.", "There is no {}."),
    "evidence": ("Findings consistent with {}.", "No evidence of {}."),
}
#: The negative of "No Finding" cannot be "no No Finding".
_NEGATIVE_OF_NO_FINDING = {
    "published": "there is Finding",
    "report": "There is a finding.",
    "evidence": "Abnormal film.",
}


def prompt_pair(label: str, family: str) -> tuple[str, str]:
    """The positive and negative prompt of a label.

    Raises:
        ValueError: an unknown family.
    """
    if family not in PROMPT_FAMILIES:
        raise ValueError(f"prompts {family!r} are unknown, there are {sorted(PROMPT_FAMILIES)}")
    positive, negative = PROMPT_FAMILIES[family]
    if label.lower() == "no finding":
        return positive.format(label), _NEGATIVE_OF_NO_FINDING[family]
    return positive.format(label), negative.format(label)

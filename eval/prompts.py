"""Pairs of prompts: what a film with and without a finding would be described as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from data_scripts.extraction import FINDING_NAMES, NO_FINDING
from data_scripts.reading.labels import plain_name, tells_normal


@dataclass(frozen=True)
class PromptFamily:
    """Templates with a place {} for the name of a finding, and findings with a pair of their own.

    Args:
        positive, negative: the templates; None: only the findings in `pairs` can be asked for.
        pairs: by the finding's name in small letters.
        against: names of findings; where there are any, a finding is compared with the positive prompts of all others
            of them, in place of a negative prompt of its own.
        no_finding_from_others: whether "No Finding" (or "Normal") is scored as minus the highest score of the other
            findings, not by a pair of its own; see `without_others`.
    """

    name: str
    positive: str | None
    negative: str | None
    pairs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    against: tuple[str, ...] = ()
    no_finding_from_others: bool = False

    def describe(self, label: str) -> list[str]:
        """What a result says of the label: its pair, what it is compared with, or that other findings tell it."""
        if self.no_finding_from_others and tells_normal(label):
            return [_FROM_OTHERS]
        compared = self.comparisons(label)
        return list(compared[0]) if len(compared) == 1 else [compared[0][0], f"the mean of {len(compared)} findings"]

    def without_others(self, scores: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Scores [films, labels] in which "No Finding" is told by the other findings, where the family wants that."""
        others = [list(labels).index(label) for label in _abnormal(labels)]
        normal = [number for number, label in enumerate(labels) if tells_normal(label)]
        if not self.no_finding_from_others or not normal or not others:
            return scores
        scores = scores.copy()
        scores[:, normal] = -scores[:, others].max(axis=1, keepdims=True)
        return scores

    def pairs_behind(self, label: str, labels: Sequence[str]) -> tuple[list[tuple[str, str]], bool]:
        """The pairs that the score of `label` among `labels` comes from, and whether it is told by other findings."""
        if self.no_finding_from_others and tells_normal(label) and (others := _abnormal(labels)):
            return [self.pair(other) for other in others], True
        return self.comparisons(label), False

    def comparisons(self, label: str) -> list[tuple[str, str]]:
        """Pairs of prompts (positive, negative) of a finding, the mean of whose differences is its score: its own pair,
        or its positive prompt beside that of every other finding in `against`.

        Raises:
            ValueError: the family has no prompts for it.
        """
        positive = self.pair(label)[0]
        others = [self.pair(other)[0] for other in self.against if plain_name(other) != plain_name(label)]
        return [(positive, other) for other in others] or [self.pair(label)]

    def pair(self, label: str) -> tuple[str, str]:
        """The positive and negative prompt of a finding. Raises ValueError where the family has none for it."""
        own = self.pairs.get(label.lower()) or (self.pairs.get("no finding") if tells_normal(label) else None)
        if own is not None:
            return own
        if self.positive is None or self.negative is None:
            raise ValueError(f"prompts {self.name!r} have no pair for {label!r} and no template: add one of them")
        # Columns of tables may be called pleural_effusion, which no report says.
        words = label.replace("_", " ")
        return self.positive.format(words), self.negative.format(words)


#: A film with these alone has no finding.
_NOT_ABNORMAL = ("support devices",)
_FROM_OTHERS = "minus the highest score of the other findings"
_KNOWN_FINDINGS = tuple(name for name in FINDING_NAMES if name != NO_FINDING)
_PUBLISHED = {"no finding": ("No Finding", "there is Finding"), "normal": ("Normal", "no Normal")}
#: "published" is the pair of arXiv 2602.22843's evaluation. No report has its words for "No Finding": with the demo's
#: model it was below chance (AUROC 0.44 on 1,500 test films; eleven other pairs 0.21 to 0.72), while the other findings
#: told it at 0.89. "default" are the published pairs with that. "contrast" needs no negative prompts: reports say
#: "no X" of what is common alone, so of a rare finding that text tells little (measured in model_cards/demo/README.md).
PROMPT_FAMILIES: dict[str, PromptFamily] = {
    family.name: family
    for family in (
        PromptFamily("default", "{}", "no {}", _PUBLISHED, no_finding_from_others=True),
        PromptFamily("published", "{}", "no {}", _PUBLISHED),
        PromptFamily(
            "clinical",
            "Findings consistent with {}.",
            "No evidence of {}.",
            {"no finding": ("No acute cardiopulmonary abnormality.", "Abnormal chest radiograph.")},
        ),
        PromptFamily(
            "report",
            "There is {}.",
            "There is no {}.",
            {"no finding": ("The heart and lungs are normal.", "There is an abnormality of the heart or lungs.")},
        ),
        PromptFamily("contrast", "{}", "no {}", _PUBLISHED, _KNOWN_FINDINGS),
    )
}


def _abnormal(labels: Sequence[str]) -> list[str]:
    """Those of `labels` that a film without a finding does not have."""
    return [label for label in labels if not (tells_normal(label) or plain_name(label) in _NOT_ABNORMAL)]


def find_prompts(name: str) -> PromptFamily:
    """The family of a name, or that of a YAML or JSON file with the keys

        positive: "{} is seen."                                  (template, optional)
        negative: "{} is not seen."                              (template, optional)
        pairs: {Tuberculosis: ["apical cavity", "clear apices"]} (findings with their own, optional)

    Raises:
        ValueError: there is no such family or file, or the file holds something else.
    """
    if name in PROMPT_FAMILIES:
        return PROMPT_FAMILIES[name]
    if not Path(name).is_file():
        raise ValueError(f"prompts {name!r} are unknown: neither a file nor one of {sorted(PROMPT_FAMILIES)}")
    try:
        # JSON is YAML, too.
        values = yaml.safe_load(Path(name).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}: not readable as YAML or JSON ({error})") from error
    return _family(name, values)


def _family(name: str, values) -> PromptFamily:
    if not isinstance(values, dict) or not values or not set(values) <= {"positive", "negative", "pairs"}:
        raise ValueError(f"{name}: expected some of the keys positive, negative and pairs")
    templates = [values.get(key) for key in ("positive", "negative")]
    if (templates[0] is None) != (templates[1] is None):
        raise ValueError(f"{name}: give both templates, positive and negative, or neither")
    for template in templates:
        if template is not None and (
            not isinstance(template, str) or template.count("{}") != 1 or set("{}") & set(template.replace("{}", ""))
        ):
            raise ValueError(f"{name}: a template is {template!r}, expected a text with one {{}} for the finding")
    pairs = values.get("pairs") or {}
    for label, pair in pairs.items() if isinstance(pairs, dict) else [("pairs", pairs)]:
        if not isinstance(label, str):
            raise ValueError(f"{name}: the finding {label!r} is no text: put it in quotation marks")
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(prompt, str) and prompt.strip() for prompt in pair)
        ):
            raise ValueError(f"{name}: {label!r} is {pair!r}, expected a list of two texts: positive, negative")
    return PromptFamily(name, *templates, {label.lower(): tuple(pair) for label, pair in pairs.items()})


def unused_pairs(family: PromptFamily, labels: Sequence[str]) -> list[str]:
    """Findings that a file of prompts has a pair for and that are none of `labels`: misspelt, or of other data."""
    if family.name in PROMPT_FAMILIES:
        return []
    asked = {label.lower() for label in labels} | {"no finding" for label in labels if tells_normal(label)}
    return sorted(set(family.pairs) - asked)

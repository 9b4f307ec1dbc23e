"""The selection rules by name: the one place that lists them. A new rule is its own file and one more word here."""

from __future__ import annotations

from train.selection.baselines import FLAWLESS, GATED_RANDOM, NONE, RANDOM, SEMDEDUP
from train.selection.cabs import CABS
from train.selection.hierarchical import HIERARCHICAL_KMEANS
from train.selection.learnability import LEARNABILITY
from train.selection.leverage import LEVERAGE
from train.selection.negcliploss import NEGCLIPLOSS
from train.selection.published import QUANTILE, SIGMA
from train.selection.rule import SelectionRule

RULES: dict[str, SelectionRule] = {
    rule.name: rule
    for rule in (
        QUANTILE, SIGMA, LEVERAGE, NEGCLIPLOSS, LEARNABILITY, CABS, SEMDEDUP, HIERARCHICAL_KMEANS, GATED_RANDOM,
        FLAWLESS, RANDOM, NONE,
    )
}  # fmt: skip
#: The rule of the first public version of the method.
DEFAULT_RULE = QUANTILE.name


def rule_named(name: str) -> SelectionRule:
    """The rule of that name.

    Raises:
        ValueError: there is none, as for a run of another version.
    """
    if name not in RULES:
        raise ValueError(f"{name!r} is no selection rule of this version, which has {', '.join(RULES)}")
    return RULES[name]


def describe_rules() -> str:
    """All rules in a line, for the help of the command line."""
    return "; ".join(f"{rule.name}: {rule.words} ({rule.when.value})" for rule in RULES.values())

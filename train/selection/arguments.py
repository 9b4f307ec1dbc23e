"""The arguments of choosing pairs, which those of training inherit; the constants of every rule are among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_type_hints

from train.selection.knowledge import REFERENCE
from train.selection.rule import SelectionRule, When
from train.selection.rules import DEFAULT_RULE, RULES, describe_rules, rule_named


def constants_of(rules: Mapping[str, SelectionRule]) -> type:
    """One dataclass with the constants of all rules as fields of their own, by the names that the rules give them."""
    constants = {}
    for rule in rules.values():
        types = get_type_hints(rule.constants)
        for constant in dataclasses.fields(rule.constants):
            copied = field(default=constant.default, metadata=constant.metadata)
            constants[constant.name] = (constant.name, types[constant.name], copied)
    return dataclasses.make_dataclass("RuleConstants", constants.values())


@dataclass
class SelectionArguments(constants_of(RULES)):
    """What chooses the pairs to train on, how many, and how they are scored (full size, or smaller images)."""

    selection: str = field(
        default=DEFAULT_RULE,
        # Escaped for argparse, which formats its helps.
        metadata={"help": f"What chooses. {describe_rules().replace('%', '%%')}.", "choices": RULES},
    )
    keep_share: float | None = field(
        default=0.227,
        metadata={"help": "Share of the corpus to keep, in (0, 1]; null in YAML: the rule's published constants."},
    )
    super_batch_size: int = field(
        default=480, metadata={"help": "Pairs scored together in the curation epoch, over all processes."}
    )
    num_prototypes: int = field(
        default=6, metadata={"help": "Prototypes; published: 6, and 32 for the rule of the second version."}
    )
    curation_epochs: int = field(default=1, metadata={"help": "Passes over the whole corpus that select."})
    curation_trains_on: str = field(
        default="kept",
        metadata={
            "help": "What is trained on in the curation epoch: the kept pairs of every super-batch (published), which "
            "costs a forward pass over all pairs to score them; or all, a plain pass whose embeddings are the scores, "
            "so that choosing costs nothing, and the kept pairs from then on. What of a super-batch does not fit one "
            "chunk goes through the towers twice; a pair without finite features costs its whole super-batch.",
            "choices": ["kept", "all"],
        },
    )
    curation_warmup_share: float = field(
        default=0.01,
        metadata={
            "help": "Plain training before the first selection, as a share of the corpus (published: 0.01); none with "
            "rules that choose before training."
        },
    )
    prototype_momentum: float = field(default=0.9, metadata={"help": "EMA momentum of the prototypes."})
    sinkhorn_temperature: float = field(default=0.5, metadata={"help": "Temperature of the Sinkhorn assignment."})
    sinkhorn_iterations: int = field(default=3, metadata={"help": "Iterations of the Sinkhorn assignment."})
    balance_findings: float = field(
        default=0.0,
        metadata={
            "help": "How much more often pairs with rare findings are seen, in [0, 1]: a pass over all or kept pairs "
            "stays as long, and sees a pair in proportion to (1 / share of the pairs with its rarest finding) to this "
            "power, at most eight times. 0: every pair once; 0.5: as repeat factor sampling does; 1: all findings "
            "alike. Findings are read from English reports; where the rules understand nothing of a report, its labels "
            "count. The curation epoch sees every pair once."
        },
    )
    reference_model: str | None = field(
        default=None,
        # It may have been moved: the hash of its weights must be equal.
        metadata={
            "help": "Selection learnability: folder of the CheXficient model that pairs are measured by.",
            "resume": "free",
        },
    )
    score_image_size: int | None = field(
        default=None, metadata={"help": "Side of the images when pairs are scored; default: the full size."}
    )
    map_sample_size: int = field(
        default=4000,
        metadata={
            "help": "Random pairs whose features are kept for the map of the curation report.",
            "resume": "free",
        },
    )
    save_curated_dataset: str | None = field(
        default=None,
        metadata={
            "help": "Folder to write the kept pairs into, as a dataset that load_dataset opens.",
            "recorded": False,
        },
    )
    curation_report: bool = field(
        default=True, metadata={"help": "Write curation_report.html at the end.", "resume": "free"}
    )
    report_galleries: bool = field(
        default=False,
        metadata={
            "help": "Show films and report beginnings in it also where the data are neither synthetic nor open.",
            "resume": "free",
        },
    )

    @property
    def rule(self) -> SelectionRule:
        """The record of `selection`."""
        return rule_named(self.selection)

    @property
    def needs(self) -> tuple[str, ...]:
        """What must be known of pairs beside their embeddings, see `train.selection.knowledge`."""
        balances = "concepts" not in self.rule.needs and self.balance_findings > 0
        return (*self.rule.needs, "concepts") if balances else self.rule.needs

    def check_selection(self) -> None:
        """Raise ValueError where a value cannot be, or does nothing with the rule chosen; it says what to do."""
        if self.keep_share is not None and not 0 < self.keep_share <= 1:
            raise ValueError(f"keep_share is {self.keep_share}, it must lie in (0, 1] (a share of the corpus)")
        self._check_rule()
        self._check_trains_on()
        if self.curation_warmup_share < 0:
            raise ValueError(f"curation_warmup_share is {self.curation_warmup_share}, it must not be negative")
        for name in ("curation_epochs", "num_prototypes", "super_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.rule.uses_prototypes and self.num_prototypes > self.super_batch_size:
            raise ValueError(
                f"num_prototypes is {self.num_prototypes}, more than the {self.super_batch_size} pairs of a "
                "super-batch by which they start: lower it or raise super_batch_size"
            )
        if self.score_image_size is not None and self.score_image_size < 32:
            raise ValueError(f"score_image_size is {self.score_image_size}, it must be at least 32 pixels")
        if not 0 <= self.prototype_momentum < 1:
            raise ValueError(f"prototype_momentum is {self.prototype_momentum}, it must lie in [0, 1)")
        if self.sinkhorn_temperature <= 0:
            raise ValueError(f"sinkhorn_temperature is {self.sinkhorn_temperature}, it must be above 0")
        if not 0 <= self.balance_findings <= 1:
            raise ValueError(f"balance_findings is {self.balance_findings}, it must lie in [0, 1]")
        if self.map_sample_size < 0:
            raise ValueError(f"map_sample_size is {self.map_sample_size}, it must not be negative")

    def _check_trains_on(self) -> None:
        if self.curation_trains_on == "kept":
            return
        if self.rule.when is not When.ONLINE:
            raise ValueError(
                f"curation_trains_on all does nothing with selection {self.selection}, which has no curation epoch: "
                "leave it out"
            )
        if self.score_image_size is not None:
            raise ValueError(
                "score_image_size does nothing with curation_trains_on all, whose scores are the embeddings of "
                "training: leave one of them out"
            )

    def _check_rule(self) -> None:
        rule = self.rule
        if self.keep_share is None and rule.selects and not rule.has_published_constants:
            raise ValueError(f"selection {rule.name!r} has no published constants: give keep_share")
        if self.keep_share is not None and rule.when is When.ONLINE and self.keep_share * self.super_batch_size < 2:
            raise ValueError(
                f"keep_share {self.keep_share} of super_batch_size {self.super_batch_size} keeps less than 2 pairs a "
                "step, too few for a contrastive loss: raise one of them"
            )
        defaults = {
            constant.name: constant.default
            for known_rule in RULES.values()
            for constant in dataclasses.fields(known_rule.constants)
        }
        given = [name for name in defaults if getattr(self, name, defaults[name]) != defaults[name]]
        foreign = [name for name in given if name not in rule.constants.names()]
        if foreign:
            does, them = ("does", "it") if len(foreign) == 1 else ("do", "them")
            raise ValueError(f"{' and '.join(foreign)} {does} nothing with selection {rule.name}: leave {them} out")
        rule.constants.of(vars(self)).check(self.keep_share)
        if not rule.selects and self.save_curated_dataset:
            raise ValueError(
                f"save_curated_dataset with selection {rule.name} would write the whole corpus: choose a selection"
            )
        if (REFERENCE in rule.needs) != (self.reference_model is not None):
            advice = "give reference_model" if self.reference_model is None else "leave reference_model out"
            raise ValueError(f"selection {rule.name} and reference_model {self.reference_model}: {advice}")
        if self.score_image_size is not None and not rule.scores:
            raise ValueError(f"score_image_size does nothing with selection {rule.name}: leave it out")

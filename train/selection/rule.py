"""What a selection rule is: one record with its name, words, constants and function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from train.selection.outcome import Role, Selection


class When(Enum):
    """When a rule chooses, in words."""

    #: From every super-batch of the curation epoch.
    ONLINE = "in the curation epoch"
    #: From the whole corpus at once, by what is known of the pairs without a model.
    BEFORE = "before training"
    #: From the whole corpus at once.
    OFFLINE = "once, after the warm-up"
    NEVER = "no choice"


@dataclass(frozen=True)
class Candidates:
    """The pairs that a rule chooses from: a super-batch, or the whole corpus (then on the CPU).

    Args:
        rows: [B] their rows in the training split.
        image_embeds, text_embeds: [B, D] fp32, each of unit norm; None where the rule does not score pairs.
        prototypes: [K, 2 D] of unit norm; None where the rule has none.
        known: [B, ...] each, what the rule `needs`, by name.
    """

    rows: Tensor
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    prototypes: Tensor | None = None
    known: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def features(self) -> Tensor | None:
        """[B, 2 D] of unit norm, image and text embedding together (`pair_features`); None where pairs are not scored.

        Computed once: the rule, the prototypes and the map of the report share it.
        """
        # Here, since the help of training lists all rules: encoding imports the model, which takes five seconds.
        from train.objectives.encoding import pair_features

        return None if self.image_embeds is None else pair_features(self.image_embeds, self.text_embeds)

    def subset(self, mask: Tensor) -> Candidates:
        """The scored pairs where `mask` [B] is True."""
        known = {name: values[mask.to(values.device)] for name, values in self.known.items()}
        return Candidates(
            self.rows[mask.cpu()], self.image_embeds[mask], self.text_embeds[mask], self.prototypes, known
        )


@dataclass(frozen=True)
class Constants:
    """The constants of a rule: fields with a default and a "help" in their metadata. This one has none.

    They are arguments of training by the same names. Rules may share a class.
    """

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Those among `values` (arguments, or the settings that a run recorded); defaults for the others."""
        return cls(**{name: values[name] for name in cls.names() if name in values})

    @classmethod
    def names(cls) -> list[str]:
        return [constant.name for constant in dataclasses.fields(cls)]

    def check(self, keep_share: float | None) -> None:
        """Raise ValueError where a value cannot be, or not with this share to keep."""


@dataclass(frozen=True)
class SelectionRule:
    """A way to choose pairs. A new one is a record in a file of its own and a name in `train.selection.rules.RULES`.

    Args:
        name: on the command line, in `run.json`, on the page and the card.
        words: what it does, to be read after its name and a colon.
        choose: the function: candidates, share to keep (None: the published constants), generator of all its random
            choices (on the CPU; an offline rule may take `initial_seed()` of it) and constants, to the selection.
            All processes call it with the same values. None for a rule that never chooses.
        when: it chooses.
        scores: whether it looks at embeddings, so that pairs go through the towers first.
        uses_prototypes: whether the curator keeps prototypes for it, and moves them towards what it keeps. Online
            rules that score alone.
        needs: what it must know of pairs beside embeddings, of `KNOWLEDGE` or `REFERENCE` of
            `train.selection.knowledge`.
        has_published_constants: whether `keep_share` may be None.
        constants: class of its constants.
        roles: those that it gives, in words, from the centre of a cluster outwards.
        note: sentences that a reader of the curation report must know.
    """

    name: str
    words: str
    choose: Callable[[Candidates, float | None, torch.Generator, Any], Selection] | None
    when: When = When.ONLINE
    scores: bool = True
    uses_prototypes: bool = False
    needs: tuple[str, ...] = ()
    has_published_constants: bool = False
    constants: type[Constants] = Constants
    roles: Mapping[Role, str] = field(
        default_factory=lambda: {Role.CENTRAL: "kept", Role.REDUNDANT: "dropped: redundant"}
    )
    note: str = ""

    def __post_init__(self):
        if self.uses_prototypes and not (self.scores and self.when is When.ONLINE):
            raise ValueError(f"rule {self.name} uses prototypes, so it must score pairs, and choose online")
        if self.scores and self.when is When.BEFORE:
            raise ValueError(f"rule {self.name} scores pairs, so it cannot choose before training")

    @property
    def selects(self) -> bool:
        """Whether it chooses at all; if not, all pairs are trained on."""
        return self.when is not When.NEVER

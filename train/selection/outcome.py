"""What a selection says of every pair: its role, its cluster and how far it is from the centre."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor


class Role(IntEnum):
    """Why a pair was kept (the last three) or dropped (the first two)."""

    REDUNDANT = 0
    OUTLIER = 1
    CENTRAL = 2
    PERIPHERY = 3
    #: The margin of a cluster, kept whole: "support" or "tail" in the published code.
    MARGIN = 4


@dataclass(frozen=True)
class Selection:
    """The outcome of a rule.

    `roles` [B] int8 (values of `Role`), `clusters` [B] int64 (nearest prototype or cluster; -1: none), `distances` [B]
    to it (NaN: not known). The last two are None where the rule has none. `note` is a sentence that whoever trains must
    read, the same one whenever it applies.
    """

    roles: Tensor
    clusters: Tensor | None = None
    distances: Tensor | None = None
    note: str | None = None

    @property
    def kept(self) -> Tensor:
        """[B] bool."""
        return self.roles >= Role.CENTRAL

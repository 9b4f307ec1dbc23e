"""The rule that keeps the pairs whose film and report agree most, relative to what else is in the super-batch.

Source: negCLIPLoss (arXiv 2405.19547).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from train.objectives.agreement import AGREEMENT_SCALE, relative_agreement
from train.selection.outcome import Role, Selection
from train.selection.rule import Candidates, Constants, SelectionRule


@dataclass(frozen=True)
class AgreementConstants(Constants):
    """The temperature at which pairs are compared."""

    agreement_scale: float = field(
        default=AGREEMENT_SCALE,
        metadata={"help": "Rules negcliploss, learnability and leverage: inverse temperature of the agreement."},
    )

    def check(self, keep_share: float | None) -> None:
        if self.agreement_scale <= 0:
            raise ValueError(f"agreement_scale is {self.agreement_scale}, it must be above 0")


def select_highest(values: Tensor, keep_share: float) -> Selection:
    """Keep the `keep_share` of the pairs with the highest `values` [B]."""
    roles = torch.full((len(values),), int(Role.OUTLIER), dtype=torch.int8, device=values.device)
    roles[values.argsort(descending=True, stable=True)[: round(keep_share * len(values))]] = Role.CENTRAL
    return Selection(roles)


def _choose(pairs: Candidates, keep_share: float, generator, constants: AgreementConstants) -> Selection:
    return select_highest(
        relative_agreement(pairs.image_embeds, pairs.text_embeds, constants.agreement_scale), keep_share
    )


NEGCLIPLOSS = SelectionRule(
    name="negcliploss",
    words="negCLIPLoss, pairs whose film and report agree most",
    choose=_choose,
    constants=AgreementConstants,
    roles={Role.CENTRAL: "kept", Role.OUTLIER: "dropped: least agreement"},
)

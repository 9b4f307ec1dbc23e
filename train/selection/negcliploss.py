"""Agreement of film and report, relative to what else is in the super-batch, and the rule that keeps the highest.

Source: negCLIPLoss (arXiv 2405.19547). A cosine alone favours films and reports that are near to everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from train.selection.outcome import Role, Selection
from train.selection.rule import Candidates, Constants, SelectionRule


@dataclass(frozen=True)
class AgreementConstants(Constants):
    """The temperature at which pairs are compared."""

    agreement_scale: float = field(
        default=100.0,
        metadata={"help": "Rules negcliploss, learnability and leverage: inverse temperature of the agreement."},
    )

    def check(self, keep_share: float | None) -> None:
        if self.agreement_scale <= 0:
            raise ValueError(f"agreement_scale is {self.agreement_scale}, it must be above 0")


def all_agreements(image_embeds: Tensor, text_embeds: Tensor, scale: float) -> Tensor:
    """[B, B] s u_i . v_j - 1/2 (logsumexp_k s u_i . v_k + logsumexp_k s u_k . v_j), of every film with every report.

    Args:
        image_embeds, text_embeds: [B, D] of unit norm.
        scale: s, the inverse temperature.
    """
    logits = scale * image_embeds @ text_embeds.T
    return logits - (logits.logsumexp(dim=1, keepdim=True) + logits.logsumexp(dim=0, keepdim=True)) / 2


def relative_agreement(image_embeds: Tensor, text_embeds: Tensor, scale: float) -> Tensor:
    """[B], at most 0: the agreement of each pair (the diagonal of `all_agreements`), minus its contrastive loss."""
    return all_agreements(image_embeds, text_embeds, scale).diagonal()


def better_than_mismatched(image_embeds: Tensor, text_embeds: Tensor, scale: float) -> Tensor:
    """[B] in [0, 1]: the share of the mismatched pairs of the super-batch (i's film with j's report) that agree less.

    A wrong report is a mismatched pair, so of wrong reports a share t lies below t, whatever their number is.
    """
    agreements = all_agreements(image_embeds, text_embeds, scale)
    count = len(agreements)
    mismatched = agreements[~torch.eye(count, dtype=torch.bool, device=agreements.device)].sort().values
    below = torch.searchsorted(mismatched, agreements.diagonal().contiguous())
    return below / max(1, len(mismatched))


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

"""How well film and report agree beside what else is in a batch, and which pairs seem to be of different films.

Source of the agreement: negCLIPLoss (arXiv 2405.19547). A cosine alone favours films and reports that are near to
everything.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Inverse temperature at which pairs are compared.
AGREEMENT_SCALE = 100.0
#: To a model that has learnt nothing all reports seem wrong: of a batch of a hundred, a share of 0.8 to 1.
MOST_WRONG = 0.75
#: Of two levels of agreement, so that pairs of one level have a density.
_SMALLEST_GAP = 1e-9
#: Texts of at least this cosine are the same to the text tower.
_SAME_TEXT = 1 - 1e-4


def relative_agreement(image_embeds: Tensor, text_embeds: Tensor, scale: float) -> Tensor:
    """[B], at most 0: s u_i . v_i - 1/2 (logsumexp_k s u_i . v_k + logsumexp_k s u_k . v_i), minus the contrastive loss
    of each pair.

    Args:
        image_embeds, text_embeds: [B, D] of unit norm.
        scale: s, the inverse temperature.
    """
    logits = scale * image_embeds @ text_embeds.T
    return logits.diagonal() - (logits.logsumexp(dim=1) + logits.logsumexp(dim=0)) / 2


def better_than_mismatched(
    image_embeds: Tensor, text_embeds: Tensor, scale: float = AGREEMENT_SCALE, text_keys: Tensor | None = None
) -> Tensor:
    """[B] in [0, 1]: the share of the mismatched pairs of the batch (i's film with another report) that agree less.

    A wrong report is a mismatched pair, so of wrong reports a share t lies below t, whatever their number is. For that
    the agreement of a film with a report is taken beside the mismatched pairs of both alone: beside their own partners,
    which a wrong pair has not in the batch, all mismatched pairs would seem worse than wrong ones. A film with a report
    of the same words as its own is no mismatched pair. Zeros where there is none.

    Args:
        image_embeds, text_embeds: [B, D] of unit norm.
        scale: the inverse temperature.
        text_keys: [B] int64, equal for equal texts: under dropout their embeddings differ.
    """
    logits, same_text = scale * image_embeds @ text_embeds.T, text_embeds @ text_embeds.T >= _SAME_TEXT
    same_text.fill_diagonal_(True)
    if text_keys is not None:
        same_text |= text_keys[:, None] == text_keys
    if same_text.all():
        return torch.zeros_like(logits[0])
    others = logits.masked_fill(same_text, -torch.inf)
    agreements = logits - (others.logsumexp(dim=1, keepdim=True) + others.logsumexp(dim=0, keepdim=True)) / 2
    mismatched = agreements[~same_text].sort().values
    return torch.searchsorted(mismatched, agreements.diagonal().contiguous()) / len(mismatched)


def wrong_share(agreement: Tensor) -> float:
    """The share of reports that seem wrong, 0 to 1: twice the share that agrees less than half of the mismatched pairs.

    Of wrong reports half lie there, of right ones hardly any to a model that knows such films (after Storey, Journal of
    the Royal Statistical Society B 64(3), 2002, where these are p-values).

    Args:
        agreement: [B], of `better_than_mismatched`.
    """
    return min(1.0, 2 * float((agreement < 0.5).double().mean()))


def wrong_probability(agreement: Tensor, most_wrong: float) -> tuple[Tensor, bool]:
    """The probability of every pair to be of different films, [B] fp32, and whether the model can tell at all.

    Of the wrong pairs, a share w of all (`wrong_share`), the agreement is uniform on [0, 1]; of right ones the density
    rises. With f the density of all, it is w / f, a local false discovery rate (Efron et al., JASA 96(456), 2001); f is
    the rising density of highest likelihood (Grenander, Skandinavisk Aktuarietidskrift 39, 1956), by isotonic
    regression. So nothing has to be given, and where nothing is wrong all are about 0. To a model that cannot tell
    reports apart all pairs are mismatched: where it would find more wrong reports than the share `most_wrong`, nothing
    is known of them, and all are 0.

    Args:
        agreement: [B], of `better_than_mismatched`.
        most_wrong: in [0, 1).
    """
    # Here, since the help of training lists all rules.
    from scipy.optimize import isotonic_regression

    wrong = wrong_share(agreement)
    if wrong > most_wrong:
        return torch.zeros(len(agreement), device=agreement.device), False
    levels, order = agreement.double().sort(stable=True)
    # Pairs of one level share the way to the next one; that of the highest is to 1.
    gaps = torch.diff(levels, append=levels.new_ones(1)).clamp(min=_SMALLEST_GAP).cpu().numpy()
    density = isotonic_regression(1 / (len(gaps) * gaps), weights=gaps).x
    probability = torch.empty(len(agreement), device=agreement.device)
    probability[order] = torch.from_numpy((wrong / density).clip(max=1)).float().to(agreement.device)
    return probability, True


def seem_right(agreement: Tensor, wrong_above: float, most_wrong: float) -> tuple[Tensor, bool]:
    """Which pairs seem to belong together, bool [B], and whether the model can tell at all (`wrong_probability`).

    Args:
        agreement: [B], of `better_than_mismatched`.
        wrong_above: those of a higher probability to be wrong do not, in (0, 1]: the higher, the fewer.
        most_wrong: in [0, 1).
    """
    probability, knows = wrong_probability(agreement, most_wrong)
    return probability <= wrong_above, knows

"""`--method auto`: which method, by the number of labelled films and the kind of tower, and why."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from transformers import PreTrainedModel

from train.adapt.arguments import MethodArguments
from train.adapt.methods import Parts, has_attention

#: Rank by the films from which on it is taken, as published: 4 for 785 films of NIH, 8 for 7,847, 32 for 78,468 and for
#: 25,184 of RSNA.
RANKS = {0: 4, 1_000: 8, 20_000: 32}
#: Below so many, nothing that was trained in a convolutional tower was better on validation than logistic regression on
#: its features (`model_cards/demo/adaptations.md`: 463 films; from 4,570 on, everything was).
FEW_FILMS = 1_000


@dataclass(frozen=True)
class Choice:
    """What is trained, and the reason in a sentence."""

    method: str
    reason: str
    rank: int | None = None

    def applied(self, arguments: MethodArguments) -> MethodArguments:
        rank = arguments.rank if self.rank is None else self.rank
        return dataclasses.replace(arguments, method=self.method, rank=rank)


def choose_method(model: PreTrainedModel, parts: Parts, films: int) -> Choice:
    """The method for findings, for a head that starts from the probe.

    Args:
        films: labelled ones to train on.
    """
    if has_attention(model, parts):
        rank = next(rank for least, rank in reversed(RANKS.items()) if films >= least)
        return Choice(
            "lora",
            f"method auto: LoRA of rank {rank}, since for a transformer (here on {films:,} films) it was better than "
            "training everything in 13 of 18 cells of arXiv 2401.12215; in ours, of small towers, everything was "
            "better by 0.006 in the mean, so try --method full as well",
            rank,
        )
    if films < FEW_FILMS:
        return Choice(
            "linear",
            f"method auto: linear, since with {films:,} films (fewer than {FEW_FILMS:,}) nothing trained in a "
            "convolutional tower was better on validation than logistic regression in our study",
        )
    return Choice(
        "full",
        f"method auto: full, since on {films:,} films a convolutional tower that was trained whole was better than "
        "LoRA on its convolutions in our study (by 0.007)",
    )

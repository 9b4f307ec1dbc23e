"""`--method auto`: which method, by the number of labelled films and the kind of tower, and why."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from transformers import PreTrainedModel

from train.adapt.arguments import MethodArguments
from train.adapt.methods import Parts, has_attention

#: Below so many films nothing that was trained was better on validation than logistic regression on the features
#: (`model_cards/demo/adaptations.md`: 463 films; from 4,570 on, everything was).
FEW_FILMS = 1_000
#: From so many on, the rank that was published for all labels of NIH (78,468 films), CheXpert and RSNA (25,184).
MANY_FILMS = 20_000


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
    if films < FEW_FILMS:
        return Choice(
            "linear",
            f"method auto: linear, since with {films:,} films (fewer than {FEW_FILMS:,}) nothing trained in the tower "
            "was better on validation than logistic regression in our study",
        )
    if not has_attention(model, parts):
        return Choice(
            "full",
            f"method auto: full, since on {films:,} films a convolutional tower that was trained whole was better than "
            "LoRA on its convolutions in our study (by 0.007 AUROC)",
        )
    rank = 32 if films >= MANY_FILMS else 8
    return Choice(
        "lora",
        f"method auto: LoRA of rank {rank}, since for a transformer on {films:,} films it was better than training "
        "everything in 13 of 18 cells of arXiv 2401.12215, with a hundredth of the weights",
        rank,
    )

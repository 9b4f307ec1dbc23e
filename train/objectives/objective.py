"""What an objective of training on image-report pairs is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from train.objectives.batch import PairBatch

if TYPE_CHECKING:
    # Five seconds of importing, for names.
    from transformers import PreTrainedConfig, PreTrainedModel


class Objective(nn.Module, ABC):
    """A loss on the embeddings of pairs, with the data that it needs and parameters of its own.

    Parameters registered on an objective are trained with those of the model: they are in the optimiser, clipped with
    the model's, averaged over processes and kept in checkpoints, but they are not part of the model that is saved.
    Parameters of the model (such as `logit_scale`) are used from the `model` that `forward` is given.

    Args:
        config: of the model, for the sizes of an objective's own parameters.

    Attributes:
        columns: of the prepared data, beyond image and report; `collate` finds them in its pairs.
        takes_label_records: whether pairs may come with the sentence of their labels in place of their report
            (`train.pretrain.label_records`), which many of them share; `collate` finds their `text_class`.
    """

    columns: ClassVar[tuple[str, ...]] = ()
    takes_label_records: ClassVar[bool] = False

    def __init__(self, config: PreTrainedConfig):
        super().__init__()

    @classmethod
    def collate(cls, pairs: list[dict]) -> dict[str, Tensor]:
        """The `extra` tensors [B, ...] of a batch from the `columns` of its pairs; called in loader processes."""
        return {}

    @abstractmethod
    def forward(self, model: PreTrainedModel, image_embeds: Tensor, text_embeds: Tensor, batch: PairBatch) -> Tensor:
        """The loss of this process's pairs, a scalar.

        The mean over processes must be the loss of the whole batch, since gradients are averaged over processes.

        Args:
            model: the model in training; of it use parameters outside of the towers alone.
            image_embeds, text_embeds: [B, D] fp32 of unit norm; B is equal on all processes.
            batch: the same pairs in the same order; padding rows (`valid` False) must not count.
        """

"""Models with a trained head: adapters, whole models with a head, and the run folders of `train.adapt` that hold them.

Each is the tower of an `EvaluationModel` and, by its task, one method more: `predict_labels` (findings),
`predict_masks` (structures) or `generate` (reports). Runners use it in place of what they would fit themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.models.encoders import EvaluationModel
from eval.records.runs import Adaptation
from modeling_chexficient.heat_maps_chexficient import finding_maps


class AdaptedModel(EvaluationModel):
    """A tower with a trained head; its own name is that of the head's weights, its identity also that of the base."""

    pooler_is_trained = True
    adaptation = Adaptation("head")

    @property
    def tower(self) -> nn.Module:
        return self.model.vision_model

    @property
    def identity(self) -> str:
        return f"{super().identity} on {self.adaptation.base_sha256}"

    @property
    def outputs(self) -> list[str]:
        return [self.model.config.id2label[number] for number in range(self.model.config.num_labels)]

    @property
    def one_of_all(self) -> bool:
        """Whether exactly one class is right, so that classes compete; else each is a question of its own."""
        return self.model.config.problem_type == "single_label_classification"

    def _logits(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels.to(self.device, self.model.dtype)).logits.float()


class FindingsModel(AdaptedModel):
    """Evaluates findings: `CheXficientForImageClassification`, with or without an adapter.

    Attributes:
        label_names: of the columns of `predict_labels`.
    """

    @property
    def label_names(self) -> list[str]:
        return self.outputs

    @torch.no_grad()
    def predict_labels(self, pixels: Tensor) -> Tensor:
        """[B, L] fp32 that orders films by each label: logits, or log-probabilities where one class alone is right."""
        logits = self._logits(pixels)
        return logits.log_softmax(dim=1) if self.one_of_all else logits

    def heat_maps(self, pixels: Tensor, phrases: Sequence[str], method: str | None = None) -> Tensor:
        """[B, phrases, S, S] fp32 of findings of the head. Raises ValueError for others, and without spatial features.

        `method` is of `heat_maps_chexficient.METHODS`, but similarity.
        """
        pixels = pixels.to(self.device, self.model.dtype)
        return finding_maps(self.model, pixels, phrases, method)


class StructuresModel(AdaptedModel):
    """Outlines structures: `CheXficientForSemanticSegmentation`, with or without an adapter.

    Attributes:
        structure_names: of the channels of `predict_masks`.
    """

    @property
    def structure_names(self) -> list[str]:
        return self.outputs

    @torch.no_grad()
    def predict_masks(self, pixels: Tensor) -> Tensor:
        """[B, L, S, S] fp32, the head's logits at the size of `pixels`."""
        return self._logits(pixels)

    def decide(self, logits: Tensor, size: int) -> Tensor:
        """Logits [B, L, S, S] of `predict_masks` as [B, L, size, size], above 0 inside of a structure.

        Where one class alone is right, that is its lead over the best of the others.
        """
        logits = F.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
        if not self.one_of_all:
            return logits
        best, second = logits.topk(2, dim=1).values.unbind(dim=1)
        winner = F.one_hot(logits.argmax(dim=1), logits.shape[1]).movedim(-1, 1).bool()
        return logits - torch.where(winner, second.unsqueeze(1), best.unsqueeze(1))


#: By name of a task (`tasks_chexficient.TASKS`) whose head sits on the tower.
KINDS: dict[str, type[AdaptedModel]] = {"classification": FindingsModel, "segmentation": StructuresModel}

"""Student and teacher: a tower under a head, and the teacher's targets, which follow a running centre."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from train.objectives.self_distillation import (
    Outputs,
    Targets,
    sinkhorn_targets,
    softmax_targets,
    swap_views,
    updated_center,
)
from train.self_supervised.head import DinoHead
from train.self_supervised.towers import features, interpolate_as_published


class Network(nn.Module):
    """A tower, and a head that DINO and iBOT share."""

    def __init__(self, backbone: PreTrainedModel, head: DinoHead):
        super().__init__()
        self.backbone, self.head = backbone, head
        interpolate_as_published(backbone)

    def forward(
        self,
        global_crops: Tensor,
        local_crops: Tensor | None = None,
        masks: Tensor | None = None,
        picked: Tensor | None = None,
        hides: bool = True,
    ) -> Outputs:
        """One pass over all crops.

        Args:
            global_crops, local_crops: [2 B, 3, S, S] and [crops B, 3, s, s], normalised.
            masks: [2 B, patches] bool.
            picked: [masked patches], the places of `masks` (flat) whose logits are asked for.
            hides: the student does not see what is masked; the teacher does.
        """
        cls, tokens = features(self.backbone, global_crops, masks if hides else None)
        rows = [cls]
        if local_crops is not None:
            rows.append(features(self.backbone, local_crops)[0])
        if picked is not None and masks is not None:
            # CLS and registers stand before the patches.
            rows.append(tokens[:, -masks.shape[1] :].flatten(0, 1)[picked])
        logits = iter(self.head(torch.cat(rows)).split([len(part) for part in rows]))
        of_global = next(logits)
        of_local = None if local_crops is None else next(logits)
        return Outputs(cls, of_global, of_local, None if picked is None else next(logits))

    def gradient_checkpointing_enable(self, *args, **kwargs) -> None:
        """Of the tower. Raises ValueError where it has no layers that can be computed again."""
        if not self.backbone.supports_gradient_checkpointing:
            raise ValueError(
                f"gradient_checkpointing is not there for {type(self.backbone).__name__}: train without it, with "
                "smaller batches"
            )
        self.backbone.gradient_checkpointing_enable(*args, **kwargs)

    def activation_checkpointing_enable(self, activation_checkpointing_kwargs=None, **kwargs) -> None:
        """The name that newer versions of transformers call."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs)


class Teacher(nn.Module):
    """A running mean of the student's weights, and of its own logits where `centering` asks for it."""

    cls_center: Tensor
    patch_center: Tensor

    def __init__(self, student: Network, centering: str):
        super().__init__()
        self.network = Network(copy.deepcopy(student.backbone), copy.deepcopy(student.head))
        self.network.requires_grad_(False).eval()
        self.centering = centering
        for name in ("cls_center", "patch_center"):
            self.register_buffer(name, torch.zeros(student.head.prototypes))

    def train(self, mode: bool = True) -> Teacher:
        """It stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def targets(self, global_crops: Tensor, masks: Tensor | None, picked: Tensor | None, temperature: float) -> Targets:
        """What the student is to predict; the centres take in these crops afterwards."""
        return self.centred(self.network(global_crops, masks=masks, picked=picked, hides=False), temperature)

    @torch.no_grad()
    def centred(self, outputs: Outputs, temperature: float) -> Targets:
        """The targets that the network's outputs make, which the centres take in afterwards."""
        cls, patches = swap_views(outputs.global_logits), outputs.patch_logits
        if self.centering == "sinkhorn_knopp":
            of_cls = sinkhorn_targets(cls, temperature)
            of_patches = None if patches is None else sinkhorn_targets(patches, temperature)
        else:
            of_cls = softmax_targets(cls, self.cls_center, temperature)
            self.cls_center.copy_(updated_center(self.cls_center, cls))
            of_patches = None
            if patches is not None:
                of_patches = softmax_targets(patches, self.patch_center, temperature)
                self.patch_center.copy_(updated_center(self.patch_center, patches))
        return Targets(of_cls.view(2, -1, of_cls.shape[-1]), of_patches)

    @torch.no_grad()
    def follow(self, student: Network, momentum: float) -> None:
        """Take over 1 - `momentum` of the student's weights."""
        torch._foreach_lerp_(list(self.network.parameters()), list(student.parameters()), 1 - momentum)

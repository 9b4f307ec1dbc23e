"""Decoders of frozen feature maps into masks: which of them the evaluation trains, and how.

The decoders are those of the segmentation head; structures may overlap, so each has its own sigmoid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from data_scripts.prepared.foreground import ForegroundSampler
from data_scripts.schema import INSIDE, NOT_JUDGED
from eval.tasks.segmentation_data import FilmFeatures
from modeling_chexficient.decoders_chexficient import ImageUNetDecoder, LinearDecoder, UNetDecoder
from modeling_chexficient.modeling_chexficient_losses import entropy_and_dice

WEIGHT_DECAY = 1e-2


@dataclass(frozen=True)
class DecoderTraining:
    """Which decoders are trained on frozen features, and how.

    Args:
        decoders: by name; each takes the channels of its maps and the number of structures.
        entropy_weight: of cross entropy beside soft Dice.
        oversample_foreground: share of the places in a batch for films with a structure that fewer films show.
        learning_rate: at the start of a cosine to 0.
        batch_size: films a step; they have maps of their full size in the decoder.
        least_steps: unless told otherwise, as many epochs as make this many steps.
    """

    decoders: Mapping[str, Callable[[Sequence[int], int], nn.Module]]
    entropy_weight: float = 1.0
    oversample_foreground: float = 0.0
    learning_rate: float = 1e-3
    batch_size: int = 16
    least_steps: int = 300


LARGE_STRUCTURES = DecoderTraining({"linear": LinearDecoder, "unet": UNetDecoder})
#: As `train/recipes/segmentation_tubes.yaml`, which says why: the film itself beside the maps, soft Dice alone.
THIN_STRUCTURES = DecoderTraining(
    {"image_unet": ImageUNetDecoder},
    entropy_weight=0.0,
    oversample_foreground=0.33,
    learning_rate=3e-3,
    # A thin structure is found after many steps, and a step at the size of the film is dear.
    batch_size=8,
    least_steps=600,
)


def segmentation_loss(logits: Tensor, masks: Tensor, entropy_weight: float = 1.0) -> Tensor:
    """`entropy_and_dice` of masks [B, structures, H, W] that hold 255 inside, 0 outside, 127 not judged."""
    return entropy_and_dice(logits, masks == INSIDE, masks != NOT_JUDGED, entropy_weight=entropy_weight)


def train_decoders(
    decoders: dict[str, nn.Module],
    training: DecoderTraining,
    train: FilmFeatures,
    validate: Callable[[nn.Module], float],
    epochs: int,
    seed: int,
) -> dict[str, tuple[int, float]]:
    """Train all decoders on the same batches and leave each with the weights of its best epoch.

    Args:
        decoders: by name; moved to the device of the features.
        training: how.
        train: features and masks of the training films.
        validate: the figure to choose an epoch by, higher is better; NaN counts as worst.
        seed: of the order of the films.

    Returns:
        for every decoder its best epoch, from 1, and the figure there.
    """
    batch_size = training.batch_size
    steps = epochs * -(-len(train) // batch_size)
    share = training.oversample_foreground
    sampler = ForegroundSampler(train.shows() if share else np.zeros((len(train), 1), bool), share, seed)
    optimisers, schedules = {}, {}
    for name, decoder in decoders.items():
        decoder.to(train.device)
        optimisers[name] = torch.optim.AdamW(decoder.parameters(), lr=training.learning_rate, weight_decay=WEIGHT_DECAY)
        schedules[name] = torch.optim.lr_scheduler.CosineAnnealingLR(optimisers[name], steps)
    best: dict[str, tuple[int, float]] = {}
    weights = {}
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        order = list(sampler)
        for start in range(0, len(order), batch_size):
            pyramid, masks = train.batch(order[start : start + batch_size])
            for name, decoder in decoders.items():
                decoder.train()
                loss = segmentation_loss(decoder(pyramid, masks.shape[-1]), masks, training.entropy_weight)
                optimisers[name].zero_grad()
                loss.backward()
                optimisers[name].step()
                schedules[name].step()
        for name, decoder in decoders.items():
            figure = validate(decoder.eval())
            figure = figure if np.isfinite(figure) else -np.inf
            if name not in best or figure > best[name][1]:
                best[name], weights[name] = (epoch + 1, figure), copy.deepcopy(decoder.state_dict())
    for name, decoder in decoders.items():
        decoder.load_state_dict(weights[name])
    return best

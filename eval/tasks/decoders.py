"""Decoders of frozen feature maps into masks: which of them the evaluation trains, and how.

The decoders are those of the segmentation head; structures may overlap, so each has its own sigmoid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from data_scripts.schema import INSIDE, NOT_JUDGED
from eval.tasks.segmentation_data import FilmFeatures
from modeling_chexficient.decoders_chexficient import LinearDecoder, UNetDecoder
from modeling_chexficient.modeling_chexficient_losses import entropy_and_dice

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
DECODERS: dict[str, Callable[[Sequence[int], int], nn.Module]] = {"linear": LinearDecoder, "unet": UNetDecoder}


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """`entropy_and_dice` of masks [B, structures, H, W] that hold 255 inside, 0 outside, 127 not judged."""
    return entropy_and_dice(logits, masks == INSIDE, masks != NOT_JUDGED)


def train_decoders(
    decoders: dict[str, nn.Module],
    train: FilmFeatures,
    validate: Callable[[nn.Module], float],
    epochs: int,
    batch_size: int,
    seed: int,
) -> dict[str, tuple[int, float]]:
    """Train all decoders on the same batches and leave each with the weights of its best epoch.

    Args:
        decoders: by name; moved to the device of the features.
        train: features and masks of the training films.
        validate: the figure to choose an epoch by, higher is better; NaN counts as worst.
        seed: of the order of the films.

    Returns:
        for every decoder its best epoch, from 1, and the figure there.
    """
    steps = epochs * -(-len(train) // batch_size)
    optimisers, schedules = {}, {}
    for name, decoder in decoders.items():
        decoder.to(train.device)
        optimisers[name] = torch.optim.AdamW(decoder.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedules[name] = torch.optim.lr_scheduler.CosineAnnealingLR(optimisers[name], steps)
    best: dict[str, tuple[int, float]] = {}
    weights = {}
    for epoch in range(epochs):
        order = np.random.default_rng((seed, epoch)).permutation(len(train))
        for start in range(0, len(order), batch_size):
            pyramid, masks = train.batch(order[start : start + batch_size].tolist())
            for name, decoder in decoders.items():
                decoder.train()
                loss = segmentation_loss(decoder(pyramid, masks.shape[-1]), masks)
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

"""Modes of a model: evaluation, training without dropout, and what of a module makes them differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.modules.batchnorm import _BatchNorm

#: Attributes by which modules hold a probability of dropping: `nn.Dropout` the first, those of transformers the others.
_DROP_ATTRIBUTES = ("p", "dropout", "attention_dropout", "dropout_prob", "drop_prob")


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Without gradient and dropout, and back to the mode the model was in."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        model.train(training)


@contextmanager
def without_dropout(model: torch.nn.Module, active: bool = True) -> Iterator[None]:
    """Training mode with everything that drops switched off, so that scoring and training see the same embeddings."""
    before = _what_drops(model) if active else []
    for module, name, _ in before:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def has_dropout(model: torch.nn.Module) -> bool:
    """Whether anything is dropped in training. Which values, is drawn by each process for its own pairs in their order,
    so plain training then depends on the number of processes; curation itself does not (`without_dropout`).
    """
    return bool(_what_drops(model))


def _what_drops(model: torch.nn.Module) -> list[tuple[torch.nn.Module, str, float]]:
    """Modules with the attribute that holds their probability of dropping, where that is above 0."""
    places = [(module, name, getattr(module, name, None)) for module in model.modules() for name in _DROP_ATTRIBUTES]
    return [(module, name, value) for module, name, value in places if isinstance(value, float) and value > 0]


def has_batch_normalisation(model: torch.nn.Module) -> bool:
    """Whether anything is normalised by the batch in training, so that embeddings differ from those of evaluation."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


def embeds_texts_alike(tower: torch.nn.Module) -> bool:
    """Whether equal texts have equal embeddings in training, whatever else is in the batch."""
    return not has_dropout(tower) and not has_batch_normalisation(tower)

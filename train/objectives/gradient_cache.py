"""An objective over any batch, with the activations of few chunks in memory.

Source: GradCache (Gao et al., arXiv 2101.06983). The loss needs all embeddings at once, but the towers do not: embed
chunk by chunk without gradient, differentiate the loss by the embeddings, then embed each chunk again and
backpropagate those gradients. It is exact; the second forward costs a third of a step. Two things save of it:
embeddings that are known already (of the pass that scored the pairs) need no first pass, and chunks that are embedded
with gradient in the first pass need no second one (the last ones, since no other activations are in memory then).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

from train.objectives.batch import PairBatch
from train.objectives.encoding import Chunk, Encoder, in_order, order_of
from train.objectives.modes import embeds_texts_alike
from train.objectives.objective import Objective


class _RandomState:
    """The random numbers of a moment, for a second forward pass with the same dropout."""

    def __init__(self, *tensors: Tensor):
        self.cpu = torch.get_rng_state()
        self.devices, self.states = get_device_states(*tensors)

    @contextmanager
    def replay(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=self.devices, enabled=True):
            torch.set_rng_state(self.cpu)
            set_device_states(self.devices, self.states)
            yield


@dataclass
class _Embedded:
    """A chunk after the first pass.

    Attributes:
        chunk: which pairs.
        images, texts: [count, D].
        held: whether they can be differentiated.
        state: the random numbers before it was embedded; None where they do not matter.
    """

    chunk: Chunk
    images: Tensor
    texts: Tensor
    held: bool = False
    state: _RandomState | None = None


def backward_in_chunks(
    model,
    plain_model,
    encoder: Encoder,
    batch: PairBatch,
    objective: Objective,
    backward: Callable[[Tensor], None],
    no_sync: Callable[[], AbstractContextManager],
    cached: tuple[Tensor, Tensor] | None = None,
    image_size: int | None = None,
    check: Callable[[Tensor], None] = lambda loss: None,
    chunks_in_memory: int = 1,
    embedded: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Accumulate the gradient of the objective over `batch` and return the loss, without gradient.

    A batch of one chunk takes the plain way: one forward, one backward. The result is the same for any chunk size, for
    the towers, for the parameters of the objective, and for those of the model that the objective uses.

    Args:
        model: the model as trained (it may synchronise gradients between processes).
        plain_model: the same weights without that, for the first pass and for the objective.
        batch: on the device.
        objective: of the embeddings of all pairs of the batch; may gather those of other processes.
        backward: called with a scalar for each chunk (`accelerator.backward`).
        no_sync: context in which gradients stay on this process; the last chunk alone is outside of it.
        cached: the embeddings, where a pass without dropout knows them already.
        image_size: side of the images; None: as they are.
        check: called with the loss before any gradient is accumulated; may raise.
        chunks_in_memory: so many chunks, at least 1, may have their activations in memory: they are embedded once.
        embedded: called with the embeddings [B, D], without gradient and in the order of the batch, before the loss.
    """
    chunks = encoder.chunks(batch, share_texts=embeds_texts_alike(plain_model.text_model))
    order = order_of(chunks)
    pairs = batch.select(order)
    if len(chunks) == 1:
        images, texts = encoder.embed(model, batch, chunks[0], image_size, "trained")
        if embedded is not None:
            embedded(*(in_order(rows.detach().float(), order) for rows in (images, texts)))
        loss = objective(plain_model, images.float(), texts.float(), pairs)
        check(loss.detach())
        backward(loss)
        return loss.detach()

    if cached is None:
        passed = _first_pass(plain_model, encoder, batch, chunks, image_size, chunks_in_memory)
    else:
        counts = [chunk.count for chunk in chunks]
        parts = [rows[order.to(rows.device)].split(counts) for rows in cached]
        passed = [_Embedded(*of_chunk) for of_chunk in zip(chunks, *parts, strict=True)]
    images, texts = (
        torch.cat([rows.detach().float() for rows in parts]).requires_grad_()
        for parts in zip(*((part.images, part.texts) for part in passed), strict=True)
    )
    if embedded is not None:
        embedded(*(in_order(rows.detach(), order) for rows in (images, texts)))
    loss = objective(plain_model, images, texts, pairs)
    check(loss.detach())
    gradients, own = _gradients(loss, (images, texts), plain_model, objective)
    gradients = zip(*(rows.split([chunk.count for chunk in chunks]) for rows in gradients), strict=True)
    # What is held first, which frees its memory before another chunk is embedded; the sort is stable.
    todo = sorted(zip(passed, gradients, strict=True), key=lambda part: not part[0].held)
    for number, (part, (image_gradients, text_gradients)) in enumerate(todo, start=1):
        last = number == len(todo)
        with nullcontext() if last else no_sync():
            images, texts = _with_gradient(model, encoder, batch, part, image_size)
            surrogate = (images * image_gradients).sum() + (texts * text_gradients).sum()
            if last:
                # With the last chunk, whose backward alone synchronises processes, as each parameter's only gradient
                # of the loss itself.
                surrogate = surrogate + sum((parameter * gradient).sum() for parameter, gradient in own)
            backward(surrogate)
    return loss.detach()


def _with_gradient(
    model, encoder: Encoder, batch: PairBatch, part: _Embedded, image_size: int | None
) -> tuple[Tensor, Tensor]:
    """The embeddings of a chunk that can be differentiated; those that were held are given away."""
    if part.held:
        images, texts = part.images, part.texts
        part.images = part.texts = None
        return images, texts
    with nullcontext() if part.state is None else part.state.replay():
        return encoder.embed(model, batch, part.chunk, image_size, "trained")


def _gradients(
    loss: Tensor, embeddings: tuple[Tensor, Tensor], model: nn.Module, objective: nn.Module
) -> tuple[tuple[Tensor, Tensor], list[tuple[nn.Parameter, Tensor]]]:
    """Of the loss by the embeddings, and by each parameter that it uses, of the model or of the objective."""
    everything = (*model.parameters(), *objective.parameters())
    parameters = [parameter for parameter in everything if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, [*embeddings, *parameters], allow_unused=True)
    images, texts = (
        torch.zeros_like(rows) if gradient is None else gradient
        for rows, gradient in zip(embeddings, gradients[:2], strict=True)
    )
    used = zip(parameters, gradients[2:], strict=True)
    return (images, texts), [(parameter, gradient) for parameter, gradient in used if gradient is not None]


def _first_pass(
    model, encoder: Encoder, batch: PairBatch, chunks: list[Chunk], image_size: int | None, chunks_in_memory: int
) -> list[_Embedded]:
    """All chunks one after the other: without gradient, and the last `chunks_in_memory` with it.

    The first chunk is never held: the backward pass of one chunk synchronises processes, and the model as trained must
    have embedded that.
    """
    passed = []
    for number, chunk in enumerate(chunks):
        held = number >= max(1, len(chunks) - chunks_in_memory)
        state = None if held else _RandomState(batch.pixel_values)
        with torch.set_grad_enabled(held):
            passed.append(_Embedded(chunk, *encoder.embed(model, batch, chunk, image_size, "trained"), held, state))
    return passed

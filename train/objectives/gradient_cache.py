"""An objective over any batch, with the activations of one chunk in memory.

Source: GradCache (Gao et al., arXiv 2101.06983). The loss needs all embeddings at once, but the towers do not: embed
chunk by chunk without gradient, differentiate the loss by the embeddings, then embed each chunk again and
backpropagate those gradients. It is exact; the second forward costs a third of a step. Embeddings that are known
already (of the pass that scored the pairs) save that third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

from train.objectives.batch import PairBatch
from train.objectives.encoding import Chunk, Encoder
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
    """
    chunks = encoder.chunks(batch)
    order = torch.cat([chunk.index[: chunk.count] for chunk in chunks])
    pairs = batch.select(order)
    if len(chunks) == 1:
        images, texts = encoder.embed(model, batch, chunks[0], image_size, "trained")
        loss = objective(plain_model, images.float(), texts.float(), pairs)
        check(loss.detach())
        backward(loss)
        return loss.detach()

    if cached is None:
        embeddings, states = _first_pass(plain_model, encoder, batch, chunks, image_size)
    else:
        embeddings, states = [rows[order.to(rows.device)] for rows in cached], [None] * len(chunks)
    images, texts = (rows.detach().float().requires_grad_() for rows in embeddings)
    loss = objective(plain_model, images, texts, pairs)
    check(loss.detach())
    (image_gradients, text_gradients), own = _gradients(loss, (images, texts), plain_model, objective)
    start = 0
    for chunk, state in zip(chunks, states, strict=True):
        rows = slice(start, start + chunk.count)
        start += chunk.count
        last = chunk is chunks[-1]
        with nullcontext() if last else no_sync(), nullcontext() if state is None else state.replay():
            images, texts = encoder.embed(model, batch, chunk, image_size, "trained")
            surrogate = (images * image_gradients[rows]).sum() + (texts * text_gradients[rows]).sum()
            if last:
                # With the last chunk, whose backward alone synchronises processes, as each parameter's only gradient
                # of the loss itself.
                surrogate = surrogate + sum((parameter * gradient).sum() for parameter, gradient in own)
            backward(surrogate)
    return loss.detach()


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
    model, encoder: Encoder, batch: PairBatch, chunks: list[Chunk], image_size: int | None
) -> tuple[list[Tensor], list[_RandomState]]:
    """Embeddings of all chunks one after the other, without gradient, and the random state before each."""
    parts, states = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_RandomState(batch.pixel_values))
            parts.append(encoder.embed(model, batch, chunk, image_size, "trained"))
    return [torch.cat(embeds) for embeds in zip(*parts, strict=True)], states

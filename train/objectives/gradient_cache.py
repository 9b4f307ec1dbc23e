"""A contrastive loss over any batch, with the activations of one chunk in memory.

Source: GradCache (Gao et al., arXiv 2101.06983). The loss needs all embeddings at once, but the towers do not: embed
chunk by chunk without gradient, differentiate the loss by the embeddings, then embed each chunk again and
backpropagate those gradients. It is exact; the second forward costs a third of a step. Embeddings that are known
already (of the pass that scored the pairs) save that third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import get_device_states, set_device_states

from train.objectives.encoding import Chunk, Encoder

#: Image and text embeddings, and whether each pair is real, to the loss.
LossFunction = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class _RandomState:
    """The random numbers of a moment, for a second forward that draws the same (dropout)."""

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
    batch: dict[str, Tensor],
    lengths: Tensor,
    loss_function: LossFunction,
    backward: Callable[[Tensor], None],
    no_sync: Callable[[], AbstractContextManager],
    cached: tuple[Tensor, Tensor] | None = None,
    image_size: int | None = None,
) -> Tensor:
    """Accumulate the gradient of the loss over `batch` and return the loss, without gradient.

    A batch of one chunk takes the plain way: one forward, one backward. The result is the same for any chunk size.

    Args:
        model: the model as trained (it may synchronise gradients between processes).
        plain_model: the same weights without that, for the first pass.
        batch: tensors of the collator, on the device; "valid" [B] bool may mark rows that only fill up.
        lengths: tokens of each text [B], on the CPU.
        loss_function: of the embeddings of all pairs of the batch; may gather those of other processes.
        backward: called with a scalar for each chunk (`accelerator.backward`).
        no_sync: context in which gradients stay on this process; the last chunk alone is outside of it.
        cached: the embeddings, where a pass without dropout knows them already.
        image_size: side of the images; None: as they are.
    """
    chunks = encoder.chunks(lengths, batch["input_ids"].shape[1])
    valid = batch.get("valid")
    if len(chunks) == 1:
        (chunk,) = chunks
        images, texts = encoder.embed(model, batch, chunk, image_size, "trained")
        loss = loss_function(images, texts, _rows(valid, chunk))
        backward(loss)
        return loss.detach()

    order = torch.cat([chunk.index[: chunk.count] for chunk in chunks])
    if cached is None:
        embeddings, states = _first_pass(plain_model, encoder, batch, chunks, image_size)
    else:
        embeddings, states = [rows[order.to(rows.device)] for rows in cached], [None] * len(chunks)
    images, texts = (rows.detach().float().requires_grad_() for rows in embeddings)
    # The loss has parameters of its own (the temperature): their gradient joins the last chunk's.
    loss = loss_function(images, texts, None if valid is None else valid[order.to(valid.device)])
    scale = plain_model.logit_scale
    image_gradients, text_gradients, scale_gradient = torch.autograd.grad(loss, [images, texts, scale])
    start = 0
    for chunk, state in zip(chunks, states, strict=True):
        rows = slice(start, start + chunk.count)
        start += chunk.count
        last = chunk is chunks[-1]
        with nullcontext() if last else no_sync(), nullcontext() if state is None else state.replay():
            images, texts = encoder.embed(model, batch, chunk, image_size, "trained")
            surrogate = (images * image_gradients[rows]).sum() + (texts * text_gradients[rows]).sum()
            backward(surrogate + scale * scale_gradient if last else surrogate)
    return loss.detach()


def _first_pass(
    model, encoder: Encoder, batch: dict[str, Tensor], chunks: list[Chunk], image_size: int | None
) -> tuple[list[Tensor], list[_RandomState]]:
    """Embeddings of all chunks one after the other, without gradient, and the random state before each."""
    parts, states = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_RandomState(batch["pixel_values"]))
            parts.append(encoder.embed(model, batch, chunk, image_size, "trained"))
    return [torch.cat(embeds) for embeds in zip(*parts, strict=True)], states


def _rows(valid: Tensor | None, chunk: Chunk) -> Tensor | None:
    return None if valid is None else valid[chunk.index[: chunk.count].to(valid.device)]

"""Rows gathered over all processes, with and without gradient. With one process every function is the identity."""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        dist.barrier()


def from_first(value):
    """Broadcast: the value of rank 0, on every rank."""
    values = [value]
    if world_size() > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]


def agree(tensor: Tensor) -> Tensor:
    """Broadcast: the values of rank 0. What is computed alike everywhere may still differ in the last bit."""
    if world_size() > 1:
        dist.broadcast(tensor, src=0)
    return tensor


def leave_together() -> None:
    """At the end of a program: all processes come here, then each ends its part of the group.

    Left to the interpreter's exit, gloo's threads may find the others gone and abort the process.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


class _GatherRows(torch.autograd.Function):
    """Concatenate equal blocks of all processes; backward sums every process's gradient of our own block.

    `torch.distributed.all_gather` has no gradient; the published code keeps only the local term, which makes the
    encoders' gradient 1/world of the true one.
    """

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        blocks = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(blocks, rows.contiguous())
        return torch.cat(blocks)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[rank() * ctx.count : (rank() + 1) * ctx.count]


def gather_rows(rows: Tensor) -> Tensor:
    """`rows` [n, ...] of every process as [world n, ...] in rank order, differentiable; n equal on all processes."""
    return _GatherRows.apply(rows) if world_size() > 1 else rows


def gather_uneven(rows: Tensor, counts: list[int] | None = None) -> Tensor:
    """`rows` [n_rank, ...] of every process as [sum n_rank, ...] in rank order, without gradient.

    Args:
        counts: how many rows each process has, where that is known; asking costs a wait for the device.
    """
    if world_size() == 1:
        return rows
    if counts is None:
        own = torch.tensor([len(rows)], device=rows.device)
        gathered = [torch.empty_like(own) for _ in range(world_size())]
        dist.all_gather(gathered, own)
        counts = torch.cat(gathered).tolist()
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    blocks = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(blocks, padded)
    return torch.cat([block[:count] for block, count in zip(blocks, counts, strict=True)])


def gather_to_cpu(rows: Tensor, device: torch.device, block_size: int = 65_536) -> Tensor:
    """`rows` [n_rank, D] on the CPU of every process as [sum n_rank, D] on the CPU, through `device` block by block.

    The parts of the processes must be those of `local_slice`.
    """
    if world_size() == 1:
        return rows
    total = int(sum_over_processes(torch.tensor(len(rows))))
    sizes = [part.stop - part.start for part in slices(total)]
    parts = [[] for _ in sizes]
    for start in range(0, max(sizes), block_size):
        counts = [max(0, min(block_size, size - start)) for size in sizes]
        blocks = gather_uneven(rows[start : start + block_size].to(device), counts).cpu().split(counts)
        for part, block in zip(parts, blocks, strict=True):
            part.append(block)
    return torch.cat([block for part in parts for block in part])


def even_share(count: int) -> tuple[Tensor, Tensor]:
    """This process's share of `count` rows that all processes hold alike, equal in size everywhere.

    Returns:
        the index of this process's rows [ceil(count / world)], and `valid`, bool of the same shape: False for padding
        rows (at most world - 1 over all processes), which repeat another row. Both are on the CPU.
    """
    size = -(-count // world_size())
    index = torch.arange(rank() * size, (rank() + 1) * size)
    return index.clamp(max=count - 1), index < count


def average_gradients(module: torch.nn.Module) -> None:
    """Average the gradients of a module that DDP does not wrap over all processes.

    A parameter that the pairs of one process did not reach counts as zero there.
    """
    if world_size() > 1:
        for parameter in module.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
                parameter.grad /= world_size()


def share_buffers(module: torch.nn.Module) -> None:
    """Give all processes the buffers of the first one, e.g. running statistics of batch normalisation."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def slices(count: int) -> list[slice]:
    """Where the rows of each process lie among `count` rows that were split as evenly as possible."""
    size, larger = divmod(count, world_size())
    sizes = [size + (number < larger) for number in range(world_size())]
    ends = list(accumulate(sizes))
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def local_slice(count: int) -> slice:
    """Where this process's rows lie among `count` rows."""
    return slices(count)[rank()]


def sum_over_processes(value: Tensor) -> float:
    """The sum of a scalar over all processes."""
    if world_size() == 1:
        return float(value)
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
    total = value.to(device, torch.float64)
    dist.all_reduce(total)
    return float(total)

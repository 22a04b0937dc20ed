"""Sums, maxima and concatenations across processes; each is the identity in a run of one process.

Letters: B items of this process, M items of all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes: 1 when ``torch.distributed`` is not initialised."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes. Its gradient is the sum of all processes' gradients of the same sum.

    ``torch.distributed.nn.all_reduce`` does the same, but is deprecated and refuses to be compiled around.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _AllReduceSum.apply(gradient)


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum ``x`` over all processes, differentiably.

    With DDP, which *averages* gradients, each process back-propagates its own loss, and the result is the gradient of
    the mean of the losses, through every process's share of the sum.
    """
    return x if world_size() == 1 else _communicate(_AllReduceSum.apply, x)


@torch.no_grad()
def all_reduce_max(x: Tensor) -> Tensor:
    """Elementwise maximum of ``x`` over all processes, without gradient."""
    return x.detach() if world_size() == 1 else _communicate(_max, x)


@torch.no_grad()
def concat_all_gather(x: Tensor) -> tuple[Tensor, int]:
    """Concatenate ``x`` of all processes in rank order, without gradient; their lengths may differ.

    Args:
        x: [B, ...], same trailing shape and dtype on every process.

    Returns:
        [M, ...], and the row at which this process's own items start.
    """
    if world_size() == 1:
        return x.detach(), 0
    return _communicate(_gather, x)


def gather_rows(x: Tensor) -> tuple[Tensor, int]:
    """As :func:`concat_all_gather`, differentiably, with gradients as those of :func:`all_reduce_sum`."""
    if world_size() == 1:
        return x, 0
    everyone, start = concat_all_gather(x)
    own = torch.zeros_like(everyone).index_copy(0, start + torch.arange(len(x), device=x.device), x)
    return all_reduce_sum(own), start


def first_key(keys: Tensor) -> Tensor:
    """The key of the whole batch's first image, int64 [1]: of what all processes are to draw alike in this forward.

    Args:
        keys: int64 [B], of this process's images.
    """
    return concat_all_gather(keys[:1])[0][:1]


@torch.compiler.disable
def _communicate(function: Callable[[Tensor], Any], x: Tensor) -> Any:
    """Keep collectives out of compiled graphs; a run of one process has no break in its graph."""
    return function(x)


def _max(x: Tensor) -> Tensor:
    largest = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest


def _gather(x: Tensor) -> tuple[Tensor, int]:
    lengths = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world_size())]
    dist.all_gather(lengths, torch.tensor([len(x)], device=x.device))
    counts = torch.cat(lengths).tolist()
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x.detach()
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    start = sum(counts[: dist.get_rank()])
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)]), start

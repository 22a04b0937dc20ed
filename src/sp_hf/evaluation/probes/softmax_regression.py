"""Softmax regression on classes or distributions over them, for several step sizes and weight decays in one pass.

    min over W, b of   mean over rows of [ - sum over classes of t log softmax(W x + b) ]  +  (decay / 2) |W|^2

A row's targets t sum to its weight (1, or the fraction of a patch that is not void). The candidates' weights lie side
by side in one matrix: SGD with Nesterov momentum 0.9 and a cosine schedule from zero weights.

Rows are read, standardised and moved to the device batch by batch: features may be memory-mapped, and no copy of all of
them is made.

Letters: n rows, D features, C classes, K candidates, B rows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .standardise import Standardisation

_MOMENTUM = 0.9


def train_softmax(
    x: Tensor,
    targets: Tensor,
    classes: int,
    grid: Sequence[tuple[float, float]],
    batches: Sequence[Tensor],
    shares: Tensor | None = None,
    standardise: Standardisation | None = None,
    device: torch.device | str = "cpu",
    places: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All candidates at once.

    Args:
        x: float32 [n, D].
        targets: int64 [n] in 0 .. C-1, or float32 [n, C], not negative; a row's sum is then its weight.
        classes: C.
        grid: K pairs of step size and weight decay.
        batches: int64 [B] rows of each step.
        shares: float32 [n, K], by how much each row counts for each candidate; ``None``: by 1.
        standardise: what is done to each batch; ``None``: ``x`` is standardised already.
        device: where the weights are while they are trained.
        places: int64 [n], where row i of targets, batches and shares is in ``x`` [m, D]; ``None``: n = m, at i.

    Returns:
        Weights [K, D, C] and biases [K, C], on the CPU.
    """
    k = len(grid)
    columns = (torch.tensor(column, device=device) for column in zip(*grid, strict=True))
    rates, decays = (column.repeat_interleave(classes) for column in columns)  # [K C]
    weights = torch.zeros(x.shape[1], k * classes, device=device)
    biases = torch.zeros(k * classes, device=device)
    velocity = [torch.zeros_like(weights), torch.zeros_like(biases)]
    for step, rows in enumerate(batches):
        batch = read_rows(x, rows if places is None else places[rows], standardise, device)  # [B, D]
        wanted = targets[rows].to(device)
        if targets.dim() == 1:
            wanted = F.one_hot(wanted, classes).to(batch)  # [B, C]
        predicted = torch.addmm(biases, batch, weights).unflatten(1, (k, classes)).softmax(-1)  # [B, K, C]
        residual = (predicted * wanted.sum(-1)[:, None, None] - wanted[:, None]) / len(rows)  # [B, K, C]
        if shares is not None:
            residual = residual * shares[rows, :, None].to(device)
        residual = residual.flatten(1)
        gradients = [torch.addcmul(batch.T @ residual, weights, decays), residual.sum(0)]
        rate = rates * ((math.cos(math.pi * step / len(batches)) + 1) / 2)
        for parameter, v, gradient in zip((weights, biases), velocity, gradients, strict=True):
            v.mul_(_MOMENTUM).add_(gradient)
            parameter.sub_(rate * (gradient + _MOMENTUM * v))
    weights, biases = weights.cpu(), biases.cpu()
    return weights.unflatten(1, (k, classes)).transpose(0, 1).contiguous(), biases.unflatten(0, (k, classes))


def read_rows(x: Tensor, rows: Tensor, standardise: Standardisation | None, device: torch.device | str) -> Tensor:
    """Some rows of float32 [n, D], standardised, on a device: [B, D]."""
    batch = x[rows]
    return (batch if standardise is None else standardise(batch)).to(device)


def shuffled_batches(n: int, batch: int, steps: int, seed: int) -> list[Tensor]:
    """Rows of each step: as many passes over all n rows, each in a new order, as make ``steps`` steps or more."""
    generator = torch.Generator().manual_seed(seed)
    passes = -(-steps // -(-n // batch))
    return [rows for _ in range(passes) for rows in torch.randperm(n, generator=generator).split(batch)]

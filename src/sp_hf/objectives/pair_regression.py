"""Losses of a regression whose targets have unit variance, and how good it is.

Letters: C components of a target.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import in_float32

LOG_SCALE_LIMIT = 5.0  # a predicted scale is between e^-5 = 0.007 and e^5 = 148 standard deviations of its target


@in_float32
def regression_loss(predictions: Tensor, targets: Tensor, kind: str = "smooth_l1", beta: float = 1.0) -> Tensor:
    """Mean smooth-L1 or squared distance of standardised relations, [..., C] each."""
    if kind == "l2":
        return F.mse_loss(predictions, targets)
    return F.smooth_l1_loss(predictions, targets, beta=beta)


@in_float32
def bounded_log_scales(raw: Tensor) -> Tensor:
    """Any numbers, brought into (-5, 5): near zero as they are, and nowhere without gradient, as a clamp would be."""
    return LOG_SCALE_LIMIT * torch.tanh(raw / LOG_SCALE_LIMIT)


@in_float32
def laplace_loss(locations: Tensor, log_scales: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood of targets under Laplace distributions: log 2b + |x - mu| / b.

    An L1 distance that each pair divides by how far it expects to be off, b, and pays for in log b (Kendall, Gal 2017,
    arXiv:1703.04977, section 3.2; with Laplace's likelihood, as for the poses of PART-MAE v6): pairs that nobody could
    tell, of sky or of texture, weigh less.

    Args:
        locations, log_scales, targets: mu, log b and x, [..., C] each.
    """
    return (log_scales + math.log(2) + (targets - locations).abs() * torch.exp(-log_scales)).mean()


@in_float32
def half_coverage(locations: Tensor, log_scales: Tensor, targets: Tensor) -> Tensor:
    """Share of targets in the central half of their predicted Laplace distributions: 0.5 where these are calibrated.

    Below, they are too narrow; above, too wide. Arguments as :func:`laplace_loss`.
    """
    return ((targets - locations).abs() <= math.log(2) * log_scales.exp()).float().mean()


@in_float32
def r2_score(predictions: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
    """Share of variance explained, estimated on the batch: the mean of each component's R2.

    A component that does not vary counts as 0: there is nothing to explain.

    Args:
        predictions, targets: [..., C] each.
        known: [..., C, K], K numbers a component that tell of it without being learned: the share is then of the
            variance that a linear fit on them leaves.
    """
    predictions, targets = predictions.flatten(0, -2), targets.flatten(0, -2)
    residual = (targets - predictions).square().sum(dim=0)
    left = targets - targets.mean(dim=0)
    if known is not None:
        left = _left_by(known.flatten(0, -3), left)
    total = left.square().sum(dim=0)
    varies = total > 1e-6 * len(targets)
    return torch.where(varies, 1 - residual / total.where(varies, 1.0), 0.0).mean()


def _left_by(known: Tensor, values: Tensor) -> Tensor:
    """What a least-squares fit on known [n, C, K], component by component, leaves of centred values [n, C]."""
    directions: list[Tensor] = []
    for column in known.unbind(-1):  # Gram-Schmidt
        column = _without(column - column.mean(dim=0), directions)
        values = _without(values, [column])
        directions.append(column)
    return values


def _without(values: Tensor, directions: list[Tensor]) -> Tensor:
    """Values [n, C] less their parts along orthogonal directions, [n, C] each."""
    for direction in directions:
        length = direction.square().sum(dim=0)
        share = (values * direction).sum(dim=0) / length.where(length > 1e-9, 1.0)
        values = values - share * direction
    return values

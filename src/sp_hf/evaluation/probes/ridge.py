"""Ridge regression in closed form, with the penalty chosen on held-out rows.

    W(p) = argmin_W  |Y - X W|^2 / n  +  p |W|^2  =  (X'X / n + p I)^-1 X'Y / n

One eigendecomposition of X'X serves every penalty and every target. No intercept: centre X and Y first.

Letters: n rows, D features, T targets, P penalties.
"""

from __future__ import annotations

import torch
from torch import Tensor

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 7))
"""1e-6 to 1e3 in half decades, for features of unit variance."""


def ridge_path(x: Tensor, y: Tensor, penalties: Tensor) -> Tensor:
    """Weights for every penalty.

    Args:
        x: [n, D], centred; computed in float64.
        y: [n, T], centred.
        penalties: [P], positive.

    Returns:
        float64 [P, D, T].
    """
    x, y = x.double(), y.double()
    values, vectors = torch.linalg.eigh(x.T @ x / x.shape[0])  # [D], [D, D]
    projected = vectors.T @ (x.T @ y) / x.shape[0]  # [D, T]
    shrunk = projected / (values.clamp(min=0)[:, None] + penalties.double()[:, None, None])  # [P, D, T]
    return vectors @ shrunk


def solve_ridge(x: Tensor, y: Tensor, penalties: Tensor) -> Tensor:
    """Weights for one penalty a target, by elimination: cheaper than the path where penalties are known.

    Args:
        x, y: [n, D] and [n, T], centred; computed in float64.
        penalties: [T], positive.

    Returns:
        float64 [D, T].
    """
    x, y = x.double(), y.double()
    moments, cross = x.T @ x / len(x), x.T @ y / len(x)
    one = torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.empty_like(cross)
    for penalty in penalties.unique():
        targets = penalties == penalty
        weights[:, targets] = torch.linalg.solve(moments + penalty * one, cross[:, targets])
    return weights


def fit_ridge(
    x: Tensor, y: Tensor, held_out: Tensor, penalties: tuple[float, ...] = PENALTIES
) -> tuple[Tensor, Tensor]:
    """Choose each target's penalty by the squared error on held-out rows, then fit on all rows.

    Args:
        x, y: [n, D] and [n, T], centred.
        held_out: bool [n], rows that choose the penalty.
        penalties: candidates.

    Returns:
        weights float64 [D, T], and the chosen penalties [T].
    """
    grid = torch.tensor(penalties, dtype=torch.float64)
    path = ridge_path(x[~held_out], y[~held_out], grid)  # [P, D, T]
    asked, wanted = x[held_out].double(), y[held_out].double()
    errors = torch.stack([(asked @ weights - wanted).square().mean(0) for weights in path])  # [P, T]
    best = errors.argmin(0)  # [T]
    weights = ridge_path(x, y, grid)  # [P, D, T]
    return weights[best, :, torch.arange(y.shape[1])].T, grid[best]

"""Permutations: from scores to the best one, and how far one is from another.

A jigsaw puzzle of T tiles is solved by a permutation whose entry i is the cell of tile i. It is chosen by the optimal
assignment (Kuhn 1955, "The Hungarian method for the assignment problem"; scipy's solver is that of Crouse 2016, "On
implementing 2D rectangular assignment algorithms")::

    argmax over permutations c of   sum over tiles i of  score(i, c(i))

Kendall's tau (Kendall 1938, "A new measure of rank correlation") compares two orders of the tiles, without ties::

    tau = (concordant - discordant pairs of tiles) / (T (T - 1) / 2)

Letters: n puzzles, T tiles.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ....errors import InputError


def optimal_assignment(scores: Tensor) -> Tensor:
    """The permutations of the highest total score.

    Args:
        scores: [n, T, T], of tiles (rows) in cells (columns).

    Returns:
        int64 [n, T], the cell of each tile.

    Raises:
        ValueError: scores that are not square or not finite.
    """
    if scores.dim() != 3 or scores.shape[1] != scores.shape[2]:
        raise InputError(f"scores are of shape {tuple(scores.shape)}; they must be [n, T, T]: as many cells as tiles")
    if not scores.isfinite().all():
        raise InputError("scores hold NaN or infinity; an assignment needs finite ones")
    cells = np.array([linear_sum_assignment(puzzle, maximize=True)[1] for puzzle in scores.double().cpu().numpy()])
    return torch.from_numpy(cells.astype(np.int64)).reshape(scores.shape[:2])


def kendall_tau(predicted: Tensor, truth: Tensor) -> Tensor:
    """Kendall's tau of each pair of permutations: int64 [n, T] twice to float64 [n]; T at least 2."""
    tiles = truth.shape[1]
    first, second = torch.triu_indices(tiles, tiles, offset=1)
    ours = (predicted[:, second] - predicted[:, first]).sign()  # [n, T (T - 1) / 2]
    theirs = (truth[:, second] - truth[:, first]).sign()
    return (ours * theirs).double().mean(1)

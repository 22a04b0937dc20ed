"""Masks over the patches of a view, drawn by key.

Letters: B images, V views of one image, h x w the grid of patches, N = h * w.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..views.keyed_random import uniform

_CANDIDATES = 40  # blocks tried; a mask of half the patches is full after about four of those that fit
_FAILURES = 10  # in a row, after which a mask stays as it is


def block_masks(
    keys: Tensor,
    stream: str,
    grid: tuple[int, int],
    ratios: Tensor,
    least_aspect: float = 0.3,
    least_area: float | None = None,
) -> Tensor:
    """Masks of rectangular blocks (Bao et al. 2021, "BEiT", arXiv:2106.08254, algorithm 1, as iBOT draws them).

    Blocks are added until the ratio is reached: each of an area uniform between the least and what is lacking, log
    of its aspect uniform, anywhere; one that adds nothing, or more than is lacking, is drawn anew, up to ten times.

    Args:
        keys: int64 [B]. stream: of their random numbers.
        grid: (h, w).
        ratios: [B, V], the share of patches to mask, which is reached from below.
        least_aspect: height / width of blocks lies between this and its inverse.
        least_area: patches of a block; ``None``: (side / 3)^2.

    Returns:
        bool [B, V, N].
    """
    height, width = grid
    u = uniform(keys, stream, (ratios.shape[1], _CANDIDATES, 4))  # [B, V, T, 4]
    wanted = ratios * (height * width)  # [B, V]
    least_area = float((min(height, width) // 3) ** 2) if least_area is None else least_area
    rows = torch.arange(height, device=keys.device)[:, None]
    columns = torch.arange(width, device=keys.device)
    mask = torch.zeros(*ratios.shape, height, width, dtype=torch.bool, device=keys.device)
    failures = torch.zeros_like(wanted)
    for area, shape, top, left in (candidate.unbind(-1) for candidate in u.unbind(2)):  # [B, V] each
        deficit = wanted - mask.sum((-1, -2))
        areas = least_area + (deficit - least_area) * area
        aspects = (math.log(least_aspect) * (1 - 2 * shape)).exp()
        sides = [(areas.clamp(min=0) * x).sqrt().round() for x in (aspects, 1 / aspects)]
        tops = (top * (height - sides[0] + 1)).floor()
        lefts = (left * (width - sides[1] + 1)).floor()
        inside_rows = (rows >= tops[..., None, None]) & (rows < (tops + sides[0])[..., None, None])
        inside_columns = (columns >= lefts[..., None, None]) & (columns < (lefts + sides[1])[..., None, None])
        block = inside_rows & inside_columns  # [B, V, h, w]
        added = (block & ~mask).sum((-1, -2))
        fits = (sides[0] < height) & (sides[1] < width) & (added > 0) & (added <= deficit)
        goes_on = (deficit > 0) & (failures < _FAILURES)
        taken = fits & goes_on
        mask = mask | (block & taken[..., None, None])
        failures = torch.where(taken, torch.zeros_like(failures), failures + 1)
    return mask.flatten(-2)


def lowest(scores: Tensor, count: int) -> Tensor:
    """Which ``count`` of the scores [..., N] are the lowest: bool [..., N]. Of uniform ones, a random choice."""
    chosen = scores.argsort(dim=-1, stable=True)[..., :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, True)


def cross_masks(keys: Tensor, stream: str, grid: tuple[int, int], ratios: Tensor) -> Tensor:
    """Masks of whole rows and whole columns (Content-position), equal shares of the grid's sides, drawn at random.

    Of a ratio r, a share of 1 - sqrt(1 - r) of the rows, and of the columns, at least one of each; of 0, none.

    Args:
        keys: int64 [B]. stream: of their random numbers.
        grid: (h, w).
        ratios: [B, V].

    Returns:
        bool [B, V, N].
    """
    height, width = grid
    u = uniform(keys, stream, (ratios.shape[1], height + width))  # [B, V, h + w]
    share = 1 - (1 - ratios).sqrt()[..., None]  # [B, V, 1]
    chosen = []
    for scores, side in zip(u.split([height, width], dim=-1), grid, strict=True):
        count = torch.where(share > 0, (share * side).round().clamp(min=1), 0.0)
        chosen.append(scores.argsort(dim=-1, stable=True).argsort(dim=-1) < count)  # by rank
    rows, columns = chosen
    return (rows[..., :, None] | columns[..., None, :]).flatten(-2)

"""I-JEPA's masks: rectangles of patches to predict, and a large context that shares no patch with them.

Letters: B images of this process, V views of one image, T target blocks, t patches of a block, n patches of the
context, h x w the grid of patches, N = h * w.

In one forward all blocks have the same height and width, on all processes; where they lie is each image's own. Contexts
are cut to the smallest of the batch's, so that they fit into one tensor.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..views.keyed_random import uniform
from .gather import all_reduce_max, first_key

_TRIES = 4  # places that are drawn for each image's blocks; the first that leaves enough context is taken


class MultiBlock(NamedTuple):
    """Patches by number, row by row."""

    context: Tensor  # int64 [B, V, n]
    targets: Tensor  # int64 [B, V, T, t]


def block_sides(area: float, aspect: float, grid: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of a block of ``area`` of the grid, rows / columns ``aspect``; always smaller than the grid."""
    patches = int(area * grid[0] * grid[1])
    sides = (patches * aspect) ** 0.5, (patches / aspect) ** 0.5
    rows, columns = (max(min(round(side), most - 1), 1) for side, most in zip(sides, grid, strict=True))
    return rows, columns


def multi_block(
    keys: Tensor,
    stream: str,
    views: int,
    grid: tuple[int, int],
    blocks: int,
    target_area: tuple[float, float],
    target_aspect: tuple[float, float],
    context_area: tuple[float, float],
    least_context: int,
) -> MultiBlock:
    """Draw targets and context (Assran et al. 2023, "I-JEPA", arXiv:2301.08243, section 3 and appendix A.1).

    Where n depends on what was drawn, the host waits for the device: once a forward.

    Args:
        keys: int64 [B]. stream: of their random numbers.
        views: V.
        grid: (h, w), at least 2 each.
        blocks: T.
        target_area, target_aspect, context_area: (low, high), uniform; the context's aspect is 1.
        least_context: patches that a context should keep; an image whose blocks leave fewer is drawn anew.

    Raises:
        ValueError: the targets leave an image no context at all.
    """
    if min(grid) < 2:
        raise InputError(f"blocks in a grid of {grid[0]} x {grid[1]} patches; give views of at least 2 x 2 patches.")
    sizes = uniform(first_key(keys), f"{stream}/sizes", (3,))[0].tolist()
    area, aspect, of_context = (
        low + (high - low) * u for u, (low, high) in zip(sizes, (target_area, target_aspect, context_area), strict=True)
    )
    u = uniform(keys, f"{stream}/places", (views, _TRIES, blocks + 1, 2))
    targets = _blocks(u[..., :-1, :], block_sides(area, aspect, grid), grid)  # [B, V, tries, T, t]
    context = _blocks(u[..., -1, :], block_sides(of_context, 1.0, grid), grid)  # [B, V, tries, c]
    free = torch.zeros(*context.shape[:-1], grid[0] * grid[1], dtype=torch.bool, device=keys.device)
    free = free.scatter(-1, context, True).scatter(-1, targets.flatten(-2), False)  # [B, V, tries, N]
    enough = free.sum(dim=-1).clamp(max=least_context)  # [B, V, tries]
    tried = enough.argmax(dim=-1, keepdim=True)  # the first of those with most, and with enough
    free = free.gather(2, tried[..., None].expand(-1, -1, 1, free.shape[-1]))[:, :, 0]  # [B, V, N]
    targets = targets.gather(2, tried[..., None, None].expand(-1, -1, 1, *targets.shape[3:]))[:, :, 0]
    least = -int(all_reduce_max(-free.sum(dim=-1).min()))  # n
    if least < 1:
        raise InputError(
            f"{blocks} target blocks of up to {target_area[1]} of {grid[0]} x {grid[1]} patches leave an image no"
            " context; lower target_blocks or target_area, or give larger views."
        )
    order = uniform(keys, f"{stream}/kept", (views, free.shape[-1])) + ~free  # those not free come last
    return MultiBlock(order.argsort(dim=-1, stable=True)[..., :least], targets)


def _blocks(places: Tensor, sides: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Patches of blocks that lie where uniform numbers [..., 2] say: [..., rows * columns]."""
    (rows, columns), device = sides, places.device
    top, left = ((u * (most - side + 1)).long() for u, most, side in zip(places.unbind(-1), grid, sides, strict=True))
    inner = torch.arange(rows, device=device)[:, None] * grid[1] + torch.arange(columns, device=device)
    return (top * grid[1] + left)[..., None] + inner.flatten()

"""Maps of tokens read at boxes: what a view's tokens say of any place of the image.

Letters: B views, h x w the map's grid, R x C the target's grid (rows x columns), D hidden size.

A map of h x w tokens is a field over its view: the token of row i, column j sits at the centre of its cell. Between
centres the field is bilinear; beyond the outermost ones it keeps the edge's value (as RoIAlign with one sample a bin,
He et al. 2017, arXiv:1703.06870, section 3; here at exact boxes). Pure functions, differentiable in the tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Resampled(NamedTuple):
    """Tokens at the cell centres of target boxes."""

    tokens: Tensor  # [..., R * C, D], row-major in the target's frame
    inside: Tensor  # bool [..., R * C], whether the centre lies in the view that the tokens are of


def bilinear_weights(centres: Tensor, extents: Tensor, cells: int, entries: int) -> Tensor:
    """Weights of ``entries`` field entries along one axis at the centres of ``cells`` cells: [B, cells, entries].

    Args:
        centres, extents: [B], where the cells lie in the field, which is the interval from 0 to 1.
        cells, entries: how many.
    """
    steps = torch.arange(cells, device=centres.device, dtype=centres.dtype) + 0.5
    # Written so that a full box at the native grid lands on whole numbers without rounding.
    start = (centres - extents / 2) * entries  # [B]
    coordinates = start[:, None] + extents[:, None] * (entries / cells) * steps - 0.5  # [B, cells], in entries
    coordinates = coordinates.clamp(0, entries - 1)
    index = torch.arange(entries, device=centres.device, dtype=centres.dtype)
    return (1 - (coordinates[..., None] - index).abs()).clamp(min=0)


def tokens_at(
    tokens: Tensor,
    grid: tuple[int, int],
    boxes: Tensor,
    flips: Tensor,
    targets: Tensor,
    target_grid: tuple[int, int],
    target_flips: Tensor | None = None,
) -> Resampled:
    """The tokens of views, resampled onto boxes of their images.

    Args:
        tokens: [..., h * w, D], row-major, of views with boxes ``boxes`` [..., 4] (cxcywh in the unflipped image) that
            are mirrored where ``flips`` bool [...].
        grid: (h, w).
        targets: [..., 4], boxes likewise, of any place of the image.
        target_grid: (R, C).
        target_flips: bool [...], targets whose columns run from right to left; ``None``: none does.

    Returns:
        See :class:`Resampled`. The view's own box, flips and grid give back its tokens exactly.
    """
    lead, (height, width), (rows, columns) = tokens.shape[:-2], grid, target_grid
    boxes, targets = boxes.float().reshape(-1, 4), targets.float().reshape(-1, 4)
    extents = targets[:, 2:] / boxes[:, 2:]  # [B, 2]
    centres = (targets[:, :2] - boxes[:, :2]) / boxes[:, 2:] + 0.5  # [B, 2], in the view as it is unflipped
    across = bilinear_weights(centres[:, 0], extents[:, 0], columns, width)  # [B, C, w]
    down = bilinear_weights(centres[:, 1], extents[:, 1], rows, height)  # [B, R, h]
    across = torch.where(flips.reshape(-1, 1, 1), across.flip(2), across)
    inside_x, inside_y = (_inside(centres[:, axis], extents[:, axis], n) for axis, n in ((0, columns), (1, rows)))
    if target_flips is not None:
        mirrored = target_flips.reshape(-1, 1)
        across = torch.where(mirrored[..., None], across.flip(1), across)
        inside_x = torch.where(mirrored, inside_x.flip(1), inside_x)
    field = tokens.reshape(-1, height, width, tokens.shape[-1])
    with torch.autocast(field.device.type, enabled=False):  # half precision would blur neighbours
        wide = field.float() if field.dtype in (torch.float16, torch.bfloat16) else field
        sampled = torch.einsum("brh,bhwd->brwd", down.to(wide), wide)
        sampled = torch.einsum("bcw,brwd->brcd", across.to(wide), sampled)
    inside = inside_y[:, :, None] & inside_x[:, None]  # [B, R, C]
    return Resampled(
        sampled.flatten(1, 2).to(tokens.dtype).view(*lead, rows * columns, -1), inside.view(*lead, rows * columns)
    )


def _inside(centres: Tensor, extents: Tensor, cells: int) -> Tensor:
    """Which cell centres lie in the interval from 0 to 1: bool [B, cells]."""
    steps = (torch.arange(cells, device=centres.device, dtype=centres.dtype) + 0.5) / cells - 0.5
    return (centres[:, None] + extents[:, None] * steps - 0.5).abs() <= 0.5

"""New pixels from views: squares turned, tiles pasted together, patches cut anywhere.

Letters: M pictures of C channels, H x W pixels; T tiles or patches of a picture, t pixels a side.

Pure functions for objectives that make pixels of their own (:class:`~sp_hf.objectives.base.Requests`): they return new
tensors and leave those they are given as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotate_squares(pixels: Tensor, tops: Tensor, lefts: Tensor, sides: Tensor, turns: Tensor) -> Tensor:
    """Turn one square of each picture about its centre, by quarter turns.

    Args:
        pixels: [M, C, H, W].
        tops, lefts, sides: int64 [M], in pixels; the square must lie in the picture.
        turns: int64 [M], quarter turns anticlockwise, as ``torch.rot90`` counts them.

    Returns:
        [M, C, H, W].
    """
    height, width = pixels.shape[-2:]
    rows = torch.arange(height, device=pixels.device)[None, :, None]  # [1, H, 1]
    columns = torch.arange(width, device=pixels.device)[None, None]  # [1, 1, W]
    top, left, side, turn = (x[:, None, None] for x in (tops, lefts, sides, turns % 4))
    i, j = rows - top, columns - left  # [M, H, 1], [M, 1, W], in the square
    last = side - 1
    inside = (i >= 0) & (i < side) & (j >= 0) & (j < side)  # [M, H, W]
    row = torch.where(turn == 0, i, torch.where(turn == 1, j, torch.where(turn == 2, last - i, last - j)))
    column = torch.where(turn == 0, j, torch.where(turn == 1, last - i, torch.where(turn == 2, last - j, i)))
    source = torch.where(inside, (row + top) * width + column + left, rows * width + columns)  # [M, H, W]
    return _gather(pixels, source.flatten(1)).unflatten(-1, (height, width))


def montage(tiles: Tensor, rows: int, columns: int) -> Tensor:
    """Pictures pasted together from tiles, row by row: [M, rows * columns, C, t, t] to [M, C, rows t, columns t]."""
    grid = tiles.unflatten(1, (rows, columns))  # [M, rows, columns, C, t, t]
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def cut_patches(pixels: Tensor, tops: Tensor, lefts: Tensor, size: int) -> Tensor:
    """Square patches from anywhere in the pictures, on no grid.

    Args:
        pixels: [M, C, H, W].
        tops, lefts: int64 [M, T], upper left corners; each patch must lie in its picture.
        size: t.

    Returns:
        [M, T, C, t, t].
    """
    steps = torch.arange(size, device=pixels.device)
    rows = tops[..., None, None] + steps[:, None]  # [M, T, t, 1]
    columns = lefts[..., None, None] + steps  # [M, T, 1, t]
    source = (rows * pixels.shape[-1] + columns).flatten(1)  # [M, T * t * t]
    return _gather(pixels, source).unflatten(-1, (tops.shape[1], size, size)).transpose(1, 2)


def _gather(pixels: Tensor, source: Tensor) -> Tensor:
    """Pixels [M, C, P] of pictures [M, C, H, W] at flat places [M, P]."""
    return pixels.flatten(2).gather(2, source[:, None].expand(-1, pixels.shape[1], -1))

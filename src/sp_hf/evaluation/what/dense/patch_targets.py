"""Between the pixels of an annotation and the patch tokens of an encoder.

An image is squashed onto a square and encoded to a grid of tokens; its annotation keeps its own resolution. The
centre of pixel (y, x) of H x W lies in the token of row floor((y + 1/2) h / H) and column floor((x + 1/2) w / W).

    down:  a token's target is the mean over the pixels in it, pixels without a value left out, and its weight is the
           fraction of them that have one
    up:    a token's prediction stands at its centre; pixels interpolate bilinearly between centres, and take the
           nearest beyond the outermost ones (torch's ``align_corners=False``)

Letters: H, W pixels of an annotation, h, w tokens, N = h w, C classes or channels, R rules.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Grid = tuple[int, int]
_VALUES_AT_ONCE = 2**24  # interpolated at a time, so that memory stays bounded however large an annotation is


@functools.lru_cache(maxsize=8)
def token_of_pixel(shape: tuple[int, int], grid: Grid) -> np.ndarray:
    """int64 [H, W] in 0 .. N-1: the token each pixel's centre lies in."""
    rows, columns = (
        np.minimum(((np.arange(pixels) + 0.5) * tokens / pixels).astype(np.int64), tokens - 1)
        for pixels, tokens in zip(shape, grid, strict=True)
    )
    return rows[:, None] * grid[1] + columns


def class_fractions(classes: np.ndarray, grid: Grid, num_classes: int) -> np.ndarray:
    """How much of each token's area each class takes.

    Args:
        classes: int64 [H, W] in 0 .. C-1, -1 for void.
        grid: (h, w).
        num_classes: C.

    Returns:
        float32 [N, C]; a row's sum is the fraction of the token that is not void.
    """
    token = token_of_pixel(classes.shape, grid)
    tokens, known = grid[0] * grid[1], classes >= 0
    cells = token[known] * num_classes + classes[known]
    counts = np.bincount(cells, minlength=tokens * num_classes).reshape(tokens, num_classes)
    pixels = np.bincount(token.ravel(), minlength=tokens)
    return (counts / np.maximum(pixels, 1)[:, None]).astype(np.float32)


def token_means(values: np.ndarray, valid: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Mean value of each token, and the fraction of its pixels that have one.

    Args:
        values: [H, W].
        valid: bool [H, W].
        grid: (h, w).

    Returns:
        Means float32 [N] (0 where no pixel is valid) and weights float32 [N].
    """
    token = token_of_pixel(values.shape, grid)
    tokens = grid[0] * grid[1]
    counts = np.bincount(token[valid], minlength=tokens)
    sums = np.bincount(token[valid], weights=values[valid].astype(np.float64), minlength=tokens)
    pixels = np.bincount(token.ravel(), minlength=tokens)
    return (sums / np.maximum(counts, 1)).astype(np.float32), (counts / np.maximum(pixels, 1)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def interpolation(tokens: int, pixels: int) -> Tensor:
    """float32 [pixels, tokens]: the weight of each token in each pixel along one axis."""
    return F.interpolate(torch.eye(tokens)[None], size=pixels, mode="linear", align_corners=False)[0].T.contiguous()


def upsampled(values: Tensor, shape: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Bilinear upsampling of token maps, some rows of pixels at a time.

    Args:
        values: float32 [C, h, w].
        shape: (H, W).

    Yields:
        Rows, and their values [C, rows, W].
    """
    channels, rows, columns = values.shape
    wide = values @ interpolation(columns, shape[1]).T  # [C, h, W]
    down = interpolation(rows, shape[0])  # [H, h]
    step = max(1, _VALUES_AT_ONCE // (channels * shape[1]))
    for start in range(0, shape[0], step):
        part = slice(start, min(start + step, shape[0]))
        yield part, down[part] @ wide


def upsampled_argmax(logits: Tensor, shape: tuple[int, int], offsets: Tensor) -> np.ndarray:
    """The class of the largest upsampled logit, by several decision rules.

    Args:
        logits: float32 [C, h, w].
        shape: (H, W).
        offsets: [R, C], added to the logits by each of R rules.

    Returns:
        int64 [R, H, W].
    """
    classes = [
        torch.stack([(part + offset[:, None, None]).argmax(0) for offset in offsets])
        for _, part in upsampled(logits, shape)
    ]
    return torch.cat(classes, dim=1).numpy()

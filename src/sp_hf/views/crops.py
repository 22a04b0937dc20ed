"""Crops of canvases, each device's fastest way.

Letters: B images, V views of one image, S canvas side in pixels, N output side in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .banded import band_weights, resample_bands
from .resampling import filter_weights, resample_dense


def in_bands(canvases: Tensor) -> bool:
    """Whether crops are made a block at a time, each from where it lies: not in a graph, which knows no places."""
    return canvases.device.type == "cpu" and not torch.compiler.is_compiling()


def crop(
    canvases: Tensor,
    centres: Tensor,
    extents: Tensor,
    size: int,
    flips: Tensor | None = None,
    blur: Tensor | None = None,
) -> Tensor:
    """All views of all images, in the canvases' units and dtype.

    Args:
        canvases: [B, S, 3, S], rows before channels.
        centres, extents: float [2, B, V], of the boxes in x and in y, normalised.
        size: N.
        flips: bool [2, B, V], which axes run backwards; ``None``: none does.
        blur: float [2, B, V], variance of a Gaussian blur in squared output pixels; ``None``: a set of views that are
            never blurred.

    Returns:
        [B, V, 3, N, N].
    """
    side = canvases.shape[1]
    if in_bands(canvases):
        bands = band_weights(centres, extents, size, side, flips, blur)
        return resample_bands(canvases, bands, size).transpose(2, 3)
    columns, rows = filter_weights(centres, extents, size, side, flips, blur)  # [B, V, N, S]
    return resample_dense(canvases, rows.to(canvases.dtype), columns.to(canvases.dtype))

"""Crops of a canvas on a CPU: the products of :mod:`.resampling`, without the zeros they multiply.

Letters: B images, V views of one image, A the two axes (x, y), S canvas side in pixels, N output side in pixels,
J blocks of n output pixels along an axis (J n >= N), k canvas pixels that a block sees.

A view is ``R @ canvas @ C^T``, and all weights of an output pixel lie within a few canvas pixels: ``R`` and ``C`` are
banded. Output pixels are taken in blocks of neighbours, which see one short run of canvas pixels, so that both products
become a few small dense ones: a sixth of the arithmetic at 224 px, at a matrix product's speed. Triangles are exact;
Gaussians end at four standard deviations, which leaves 6e-5 of their weight out, 0.02 of a grey level at most.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .resampling import FILTER, NEVER

_BLOCK = 32  # output pixels: fewer waste less arithmetic, more make better products of it
_REACH = 4.0  # standard deviations of a Gaussian


class Bands(NamedTuple):
    """Filter weights of views along both axes, a block of output pixels at a time."""

    weights: Tensor  # float32 [A, B, V, J, n, k]; rows sum to 1
    starts: Tensor  # int64 [A, B, V, J], first canvas pixel that a block sees
    stops: Tensor  # int64 [A, B, V, J], one beyond the last


def band_weights(
    centres: Tensor,
    extents: Tensor,
    size: int,
    canvas: int,
    flips: Tensor | None = None,
    blur: Tensor | None = None,
) -> Bands:
    """What :func:`~.resampling.filter_weights` gives, only where it is not zero.

    Args:
        centres, extents: float [A, B, V], of the boxes along each axis, normalised.
        size: N. canvas: S.
        flips: bool [A, B, V]; True runs the axis backwards; ``None``: none does.
        blur: float [A, B, V], variance of an additional blur in squared output pixels; ``None``: never any.
    """
    block = math.ceil(size / max(1, round(size / _BLOCK)))  # n
    blocks = math.ceil(size / block)  # J
    zoom = extents * (canvas / size)  # [A, B, V], canvas pixels to an output pixel
    step = zoom if flips is None else torch.where(flips, -zoom, zoom)
    outputs = torch.arange(blocks * block, dtype=torch.float32) + (0.5 - size / 2)  # [J n], from the centre
    positions = (centres * canvas)[..., None] + step[..., None] * outputs  # [A, B, V, J n], in canvas pixels
    positions = positions.unflatten(-1, (blocks, block))
    support = zoom.clamp(min=1)
    variance = None if blur is None else FILTER * support**2 + blur * zoom**2  # [A, B, V]
    reach = (support if variance is None else _REACH * variance.sqrt())[..., None]
    first, last = positions[..., 0], positions[..., -1]
    starts = (torch.minimum(first, last) - reach).floor().long().clamp(0, canvas - 1)  # [A, B, V, J]
    stops = torch.maximum((torch.maximum(first, last) + reach).ceil().long().clamp(max=canvas), starts + 1)
    seen = starts[..., None] + torch.arange(int((stops - starts).max()))  # [A, B, V, J, k]
    inputs = torch.where(seen < stops[..., None], seen + 0.5, math.inf)
    distance = inputs[..., None, :] - positions[..., None]  # [A, B, V, J, n, k]
    if variance is None:
        weights = distance.abs_().div_(-support[..., None, None, None]).add_(1).clamp_(min=0)
    else:
        weights = distance.square_().mul_(-0.5 / variance[..., None, None, None]).clamp_(min=NEVER).exp_()
    return Bands(weights.div_(weights.sum(-1, keepdim=True)), starts, stops)


def resample_bands(canvases: Tensor, bands: Bands, size: int) -> Tensor:
    """All views of all images, in the canvases' units.

    Args:
        canvases: float32 [B, S, 3, S], rows before channels.
        bands: x, then y.
        size: N.

    Returns:
        float32 [B, V, N, 3, N], rows before channels too.
    """
    batch, side = canvases.shape[:2]
    views, block = bands.weights.shape[2], bands.weights.shape[4]
    made = torch.empty(batch, views, size, 3, size)
    strips = torch.empty(3 * side * size)  # room for the largest view's
    planes = canvases.view(batch, 3 * side, side).unbind()
    across = bands.weights[0].transpose(-1, -2).flatten(0, 1).unbind()  # B * V x [J, k, n]
    down = bands.weights[1].flatten(0, 1).unbind()  # B * V x [J, n, k]
    runs = torch.stack([bands.starts, bands.stops], -1).flatten(1, 2).tolist()  # [A][B * V][J] (start, stop)
    for number, view in enumerate(made.flatten(0, 1).view(-1, size, 3 * size).unbind()):
        columns, rows = runs[0][number], runs[1][number]
        top, bottom = min(start for start, _ in rows), max(stop for _, stop in rows)
        plane = planes[number // views][3 * top : 3 * bottom]  # [3 h, S]
        strip = strips[: 3 * (bottom - top) * size].view(-1, size)  # [3 h, N]
        for (start, stop), weights, out in zip(columns, across[number].unbind(), strip.split(block, 1), strict=True):
            seen = weights[: stop - start, : out.shape[1]]
            torch.mm(plane.narrow(1, start, stop - start), seen, out=out)
        strip = strip.view(-1, 3 * size)  # [h, 3 N]
        for (start, stop), weights, out in zip(rows, down[number].unbind(), view.split(block), strict=True):
            seen = weights[: out.shape[0], : stop - start]
            torch.mm(seen, strip.narrow(0, start - top, stop - start), out=out)
    return made

"""Batched crops of a canvas: antialiased resampling as two matrix products a view.

Letters: B images, V views of one image, S canvas side in pixels, N output side in pixels.

Cropping, resizing, flipping and blurring are linear and separable, so a view is ``R @ canvas @ C^T`` with row weights
``R`` [N, S] and column weights ``C`` [N, S]. The canvas is never copied for a view.

**Filters.** A view set that is never blurred uses the triangle ("bilinear" with antialiasing, as in Pillow), its
half-width one output pixel when the crop is reduced and one canvas pixel when it is enlarged. A set whose views may be
blurred uses a Gaussian throughout, of the triangle's variance plus the blur's: so blurs of any strength, none included,
differ in nothing but strength. Weights are normalised over the canvas, so nothing darkens at its edges; like
Pillow's ``resize(box=...)`` the filter sees past the crop box where the image goes on.

The papers' code differs: DINO's and MAE's views are resized bicubically, MoCo v3's bilinearly, and DINO's and MoCo v3's
blur comes after that. A bicubic filter is sharper (its variance is 0, and it overshoots at edges); here every view set
starts from the triangle's 1/6, and a blurred one is a Gaussian of both.

**Effective resolution.** With z canvas pixels to an output pixel, a crop of N pixels shows no more than ``min(1, z) N``
would: an enlarged crop is blurry, which tells z, and so how large its box is. This is the blur shortcut. The filter's
variance is ``1 / (6 min(1, z)^2)`` in squared output pixels; :func:`extra_variance` is what it lacks to an effective
resolution chosen without regard to the box.
"""

from __future__ import annotations

import torch
from torch import Tensor

FILTER = 1 / 6  # variance of a triangle of half-width 1
NEVER = -30.0  # exponent of a weight as good as zero; exp() is slow where it underflows


def extra_variance(zoom: Tensor, resolution: Tensor) -> Tensor:
    """Variance of the blur that lowers a crop to an effective resolution; 0 where it is lower by itself.

    Args:
        zoom: canvas pixels to an output pixel, any shape.
        resolution: as a fraction of the output side, in (0, 1], same shape.

    Returns:
        Squared output pixels.
    """
    return FILTER * (resolution**-2 - zoom.clamp(max=1) ** -2).clamp(min=0)


def filter_weights(
    centre: Tensor, extent: Tensor, size: int, canvas: int, flips: Tensor | None = None, blur: Tensor | None = None
) -> Tensor:
    """Weights of the canvas's pixels along one axis.

    Args:
        centre, extent: float [...], of the box along this axis, normalised.
        size: N, output side in pixels.
        canvas: S, canvas side in pixels.
        flips: bool [...]; True runs the axis backwards.
        blur: float [...], variance of an additional Gaussian blur in squared output pixels; ``None``: a set of
            views that are never blurred.

    Returns:
        float32 [..., N, S]; rows sum to 1.
    """
    zoom = extent * (canvas / size)  # [...]
    step = zoom if flips is None else torch.where(flips, -zoom, zoom)
    support = zoom.clamp(min=1)
    outputs = torch.arange(size, device=centre.device, dtype=torch.float32) + (0.5 - size / 2)  # [N], from the centre
    inputs = torch.arange(canvas, device=centre.device, dtype=torch.float32) + 0.5  # [S]
    positions = (centre * canvas)[..., None] + step[..., None] * outputs  # [..., N], in canvas pixels
    distance = inputs - positions[..., None]  # [..., N, S]
    if blur is None:
        weights = distance.abs_().div_(-support[..., None, None]).add_(1).clamp_(min=0)
        return weights.div_(weights.sum(-1, keepdim=True))
    variance = FILTER * support**2 + blur * zoom**2  # [...]
    exponent = distance.square_().mul_(-0.5 / variance[..., None, None])
    return exponent.clamp_(min=NEVER).softmax(-1)  # a normalised Gaussian is the softmax of its exponent


def resample_dense(canvases: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """All views of all images, in the canvases' units and dtype.

    Two batched products, zero weights included: what a GPU does fastest. On a CPU :mod:`.banded` leaves them out.

    Args:
        canvases: [B, S, 3, S], rows before channels.
        rows, columns: [B, V, N, S] of :func:`filter_weights`, in the canvases' dtype.

    Returns:
        [B, V, 3, N, N].
    """
    b, v, n, s = rows.shape
    strips = torch.bmm(rows.reshape(b, v * n, s), canvases.view(b, s, 3 * s))  # [B, V*N, 3*S]
    views = torch.bmm(strips.view(b * v, n * 3, s), columns.reshape(b * v, n, s).transpose(1, 2))
    return views.view(b, v, n, 3, n).transpose(2, 3)

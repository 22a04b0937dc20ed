"""Batched crops of a canvas: antialiased resampling as two small matrix products a view.

Letters: B images, V views of one image, S canvas side in pixels, N output side in pixels.

Cropping, resizing, flipping and blurring are linear and separable, so a view is ``R @ canvas @ C^T`` with row weights
``R`` [N, S] and column weights ``C`` [N, S]. The canvas is never copied for a view: the rows of all views of an image
are one product with its canvas, the columns one more.

The filter is the triangle ("bilinear" with antialiasing, as in Pillow): its half-width is one output pixel when the
crop is reduced and one canvas pixel when it is enlarged. A view that is blurred, or held to a lower effective
resolution, gets a Gaussian of the triangle's variance plus the blur's instead. Weights are normalised over the canvas, so nothing
darkens at its edges; like Pillow's ``resize(box=...)`` the filter sees past the crop box where the image goes on.

**Variances.** A triangle of half-width s has variance s^2 / 6. Written in output pixels, with z canvas pixels to an
output pixel, the path from the photograph to the view has blurred it by ::

    (1/z^2 + max(1, 1/z)^2) / 6         the canvas's own antialiasing, then that of the crop

which tells z, and so the size of the box: the blur shortcut. The *effective resolution* r of a view is defined by
variance 1 / (6 r^2): it is as sharp as an antialiased reduction of the photograph to r * N pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TRIANGLE = 1 / 6  # variance of the triangle filter of half-width 1
_NEGLIGIBLE = 1e-6  # variance in squared pixels below which there is no blur to speak of


def natural_resolution(zoom: Tensor) -> Tensor:
    """Effective resolution (fraction of the output side) of a crop with nothing done to it.

    Args:
        zoom: canvas pixels to an output pixel, any shape.
    """
    enlarged = (1 / zoom).clamp(min=1)
    return (enlarged**2 + zoom**-2) ** -0.5


def extra_variance(zoom: Tensor, resolution: Tensor) -> Tensor:
    """Variance (squared output pixels) of the blur that lowers a crop to an effective resolution; 0 if it is lower.

    Args:
        zoom: canvas pixels to an output pixel, any shape.
        resolution: target, as a fraction of the output side, same shape.
    """
    return _TRIANGLE * (resolution**-2 - natural_resolution(zoom) ** -2).clamp(min=0)


def filter_weights(
    centre: Tensor, extent: Tensor, size: int, canvas: int, flips: Tensor | None = None, blur: Tensor | None = None
) -> Tensor:
    """Weights of the canvas's pixels along one axis.

    Args:
        centre, extent: float [B, V], of the box along this axis, normalised.
        size: N, output side in pixels.
        canvas: S, canvas side in pixels.
        flips: bool [B, V]; True runs the axis backwards.
        blur: float [B, V], variance of an additional Gaussian blur in squared output pixels; ``None`` is none.

    Returns:
        float32 [B, V, N, S]; rows sum to 1.
    """
    zoom = extent * (canvas / size)  # [B, V]
    step = zoom if flips is None else torch.where(flips, -zoom, zoom)
    outputs = torch.arange(size, device=centre.device, dtype=torch.float32) + (0.5 - size / 2)  # [N], from the centre
    inputs = torch.arange(canvas, device=centre.device, dtype=torch.float32) + 0.5  # [S]
    positions = (centre * canvas)[..., None] + step[..., None] * outputs  # [B, V, N], in canvas pixels
    distance = inputs - positions[..., None]  # [B, V, N, S]
    support = zoom.clamp(min=1)[..., None, None]
    if blur is None:
        weights = triangle(distance, support)
    else:
        variance = _TRIANGLE * support**2 + (blur * zoom**2)[..., None, None]
        blurred = (blur > _NEGLIGIBLE)[..., None, None]
        weights = torch.where(blurred, gaussian(distance, variance), triangle(distance, support))
    return weights.div_(weights.sum(-1, keepdim=True))


def triangle(distance: Tensor, support: Tensor) -> Tensor:
    """Triangle of half-width ``support``, at most 1."""
    return (distance.abs() / -support).add_(1).clamp_(min=0)


def gaussian(distance: Tensor, variance: Tensor) -> Tensor:
    """Gaussian of a variance, at most 1."""
    return (distance.square() / (-2 * variance)).clamp_(min=-30).exp_()  # exp is slow where it underflows


def resample(canvases: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """All views of all images, in the canvas's units.

    Args:
        canvases: [B, S, 3, S], rows first, so that one product serves the three channels.
        rows, columns: [B, V, N, S] of :func:`filter_weights`.

    Returns:
        [B, V, N, 3, N] in the canvases' dtype.
    """
    b, v, n, s = rows.shape
    rows, columns = rows.to(canvases.dtype), columns.to(canvases.dtype)
    cut = torch.bmm(rows.view(b, v * n, s), canvases.view(b, s, 3 * s))  # [B, V*N, 3*S]
    return torch.bmm(cut.view(b * v, n * 3, s), columns.view(b * v, n, s).transpose(1, 2)).view(b, v, n, 3, n)

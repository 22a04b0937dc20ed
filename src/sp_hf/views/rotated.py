"""Views that are turned about their centres.

Letters: B images, V views of one image, S canvas side in pixels, N output side in pixels.

A box (cx, cy, w, h) turned by an angle shows the rectangle of the true image's w x h about the same centre, its axes
turned by the angle, clockwise as y points down; angles and lengths are those of the true image, not of the squashed
canvas. The rectangle is sampled bilinearly on a grid finer than the output wherever the canvas is, and averaged.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def fit_rotated(boxes: Tensor, angles: Tensor, aspects: Tensor, margin: float = 0.0) -> Tensor:
    """Boxes shrunk and moved, as little as need be, so that the turned rectangles lie inside the image.

    Args:
        boxes: [B, V, 4] cxcywh. angles: [B, V], radians. aspects: [B], width / height of the images.
        margin: kept free along every border, as a fraction of the image's side.

    Returns:
        [B, V, 4], of the same shape (w : h) as before.
    """
    room = 1 - 2 * margin
    reach = _reach(boxes[..., 2:], angles, aspects)  # [B, V, 2]
    factor = (room / reach.amax(-1, keepdim=True)).clamp(max=1)  # [B, V, 1]
    half = reach * factor / 2
    centres = torch.minimum(torch.maximum(boxes[..., :2], margin + half), 1 - margin - half)
    return torch.cat([centres, boxes[..., 2:] * factor], dim=-1)


def _reach(sizes: Tensor, angles: Tensor, aspects: Tensor) -> Tensor:
    """Width and height [B, V, 2] of the upright rectangle around turned ones of sizes [B, V, 2]."""
    aspect = aspects.to(sizes)[:, None]
    cos, sin = angles.cos().abs(), angles.sin().abs()
    width, height = sizes.unbind(-1)
    return torch.stack([width * cos + height * sin / aspect, height * cos + width * aspect * sin], dim=-1)


def resample_rotated(
    canvases: Tensor, boxes: Tensor, angles: Tensor, flips: Tensor, aspects: Tensor, size: int
) -> Tensor:
    """Turned views, mirrored after the turn where ``flips``.

    Args:
        canvases: [B, S, 3, S], rows before channels, as the sampler keeps them.
        boxes: [B, V, 4]. angles: [B, V], radians. flips: bool [B, V]. aspects: [B]. size: N.

    Returns:
        float32 [B, V, 3, N, N], in the canvases' units.
    """
    batch, views = angles.shape
    fine = max(1, math.ceil(canvases.shape[1] / size))  # samples a pixel and axis; enough for a box of the whole image
    steps = (torch.arange(size * fine, device=boxes.device, dtype=torch.float32) + 0.5) / (size * fine) - 0.5
    across = steps * torch.where(flips, -1.0, 1.0)[..., None]  # [B, V, N fine]
    aspect = aspects.float()[:, None]
    x = across * boxes[..., 2:3] * aspect[..., None]  # in image heights
    y = steps * boxes[..., 3:4]
    cos, sin = angles.cos()[..., None, None], angles.sin()[..., None, None]
    x, y = x[:, :, None, :], y[..., None]  # [B, V, 1, n], [B, V, n, 1]
    places_x = boxes[..., 0, None, None] + (cos * x - sin * y) / aspect[..., None, None]  # [B, V, n, n]
    places_y = boxes[..., 1, None, None] + sin * x + cos * y
    grid = 2 * torch.stack([places_x, places_y], dim=-1) - 1
    planes = canvases.float().transpose(1, 2)  # [B, 3, S, S]
    sampled = F.grid_sample(planes, grid.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=False)
    sampled = sampled.unflatten(2, (views, -1)).transpose(1, 2).flatten(0, 1)  # [B * V, 3, n, n]
    return F.avg_pool2d(sampled, fine).unflatten(0, (batch, views))


def covered(frames: Tensor, boxes: Tensor, angles: Tensor | None, aspects: Tensor | None, size: int) -> Tensor:
    """Which pixels of upright frames lie in turned boxes, by their centres: bool [B, V, N, N].

    Args:
        frames: [B, V, 4] cxcywh in the image, of pictures of N x N pixels, not mirrored.
        boxes: [B, V, 4]. angles: [B, V], radians; ``None``: upright. aspects: [B, V], width / height of the images.
        size: N.
    """
    steps = (torch.arange(size, device=frames.device, dtype=torch.float32) + 0.5) / size - 0.5
    across = frames[..., 0:1] + steps * frames[..., 2:3] - boxes[..., 0:1]  # [B, V, N], from the boxes' centres
    down = frames[..., 1:2] + steps * frames[..., 3:4] - boxes[..., 1:2]
    x, y = torch.broadcast_tensors(across[..., None, :], down[..., None])  # [B, V, N, N]
    if angles is not None and aspects is not None:  # turned back, in image heights
        cos, sin, aspect = (t[..., None, None] for t in (angles.cos(), angles.sin(), aspects))
        x = x * aspect
        x, y = (cos * x + sin * y) / aspect, cos * y - sin * x
    return (x.abs() <= boxes[..., 2, None, None] / 2) & (y.abs() <= boxes[..., 3, None, None] / 2)

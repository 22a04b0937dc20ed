"""Crop boxes, and the relative position and scale between two of them.

A box is ``(cx, cy, w, h)`` in the *image's* normalised coordinates: x in image widths, y in image heights, measured
on pixel edges (0 is the left or top edge of the image, 1 the right or bottom edge), y downwards.

The relation of a second box to a first one is what Spatial Prediction regresses (Shen et al. 2026, arXiv:2605.09963)::

    dx = (cx2 - cx1) / ux      dy = (cy2 - cy1) / uy      lw = ln(w2 / w1)      lh = ln(h2 / h1)

with ``(ux, uy) = (1, 1)`` in units of the image, ``(w1, h1)`` in units of the first view. Relations are a group under
:func:`compose`: additive in image units, a semi-direct product (translate, then scale) in view units.

Boxes are those of the unflipped image; :func:`mirror` gives the boxes as seen after a horizontal flip.

Everything here is a pure function of tensors of shape [..., 4]; leading dimensions broadcast.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError

Units = Literal["image", "view"]


def relation(first: Tensor, second: Tensor, units: Units = "image") -> Tensor:
    """Relative position and scale of ``second`` seen from ``first``.

    Args:
        first, second: [..., 4] boxes, cxcywh.
        units: of the offset: ``"image"`` (widths and heights of the image) or ``"view"`` (those of ``first``).

    Returns:
        [..., 4] = (dx, dy, ln(w2/w1), ln(h2/h1)); the offset runs from the first centre to the second.
    """
    offset = second[..., :2] - first[..., :2]
    if _in_view_units(units):
        offset = offset / first[..., 2:]
    return torch.cat([offset, (second[..., 2:] / first[..., 2:]).log()], dim=-1)


def apply_relation(first: Tensor, rel: Tensor, units: Units = "image") -> Tensor:
    """The box that stands in relation ``rel`` to ``first``: the inverse of :func:`relation`.

    Args:
        first: [..., 4] boxes, cxcywh.
        rel: [..., 4] relations in the same ``units``.
    """
    offset = rel[..., :2]
    if _in_view_units(units):
        offset = offset * first[..., 2:]
    return torch.cat([first[..., :2] + offset, first[..., 2:] * rel[..., 2:].exp()], dim=-1)


def compose(ab: Tensor, bc: Tensor, units: Units = "image") -> Tensor:
    """The relation of c to a, from those of b to a (``ab``) and of c to b (``bc``)."""
    offset = bc[..., :2]
    if _in_view_units(units):
        offset = offset * ab[..., 2:].exp()
    return torch.cat([ab[..., :2] + offset, ab[..., 2:] + bc[..., 2:]], dim=-1)


def invert(ab: Tensor, units: Units = "image") -> Tensor:
    """The relation of a to b, from that of b to a. In image units this is the negation."""
    offset = -ab[..., :2]
    if _in_view_units(units):
        offset = offset * (-ab[..., 2:]).exp()
    return torch.cat([offset, -ab[..., 2:]], dim=-1)


def mirror(boxes: Tensor, flips: Tensor) -> Tensor:
    """Boxes as seen in the horizontally flipped image wherever ``flips`` is True.

    Args:
        boxes: [..., 4], cxcywh.
        flips: bool, broadcastable to [...].
    """
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([torch.where(flips, 1 - cx, cx), *torch.broadcast_tensors(cy, w, h)], dim=-1)


def to_xyxy(boxes: Tensor) -> Tensor:
    """cxcywh to (left, top, right, bottom). [..., 4] to [..., 4]."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def to_cxcywh(corners: Tensor) -> Tensor:
    """(left, top, right, bottom) to cxcywh. [..., 4] to [..., 4]."""
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, elementwise: [..., 4] and [..., 4] cxcywh to [...]."""
    corners_a, corners_b = to_xyxy(a), to_xyxy(b)
    low = torch.maximum(corners_a[..., :2], corners_b[..., :2])
    high = torch.minimum(corners_a[..., 2:], corners_b[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - intersection
    return intersection / union


def log_scale(rel: Tensor) -> Tensor:
    """ln(sqrt(area2 / area1)) of relations: [..., 4] to [...]."""
    return (rel[..., 2] + rel[..., 3]) / 2


def _in_view_units(units: Units) -> bool:
    if units not in ("image", "view"):
        raise InputError(f"units is {units!r}; it must be 'image' or 'view'")
    return units == "view"

"""Ordered pairs of an image's views, and the relation of the second to the first.

Letters: B images, V views of one image, P = V(V-1) ordered pairs (i, j), i != j.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ..errors import InputError
from .boxes import sample_boxes
from .geometry import Units, mirror, relation
from .keyed_random import sample_keys, uniform_streams
from .layout import layout_boxes, layout_numbers
from .sampler import Views
from .spec import ViewSpec

_SAMPLES = 4096  # images; the standard deviations are then exact to about one per cent
_LEAST_STD = 0.01


def ordered_pairs(count: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Indices (i, j) of all ordered pairs of distinct views: two int64 [P], sorted by i, then j."""
    pair = torch.arange(count * (count - 1), device=device)
    first, rest = pair // (count - 1), pair % (count - 1)
    return first, rest + (rest >= first)


def pair_relations(boxes: Tensor, flips: Tensor, units: Units) -> Tensor:
    """Relations of all ordered pairs, in the frame in which the first view shows the image.

    Where the first view is mirrored, so is the image around it: both boxes are mirrored before they are compared.

    Args:
        boxes: [B, V, 4], cxcywh in the unflipped image.
        flips: bool [B, V].
        units: of the offset, image or first view.

    Returns:
        [B, P, 4] = (dx, dy, log width ratio, log height ratio).
    """
    first, second = ordered_pairs(boxes.shape[1], boxes.device)
    flipped = flips[:, first]
    return relation(mirror(boxes[:, first], flipped), mirror(boxes[:, second], flipped), units)


def relation_std(spec: ViewSpec, units: Units) -> tuple[float, float]:
    """Standard deviations (of offsets, of log ratios) between two views of a spec, on square images.

    Estimated from boxes drawn as the spec draws them, with keys of their own: deterministic, and PyTorch's
    global generator is left alone. The mean of every component is zero by symmetry. What hardly varies (boxes of
    one size have one scale) is taken to have the least standard deviation, 0.01, and so is not blown up.

    Raises:
        ValueError: boxes that are not the spec's own: inside other views, or given.
    """
    if spec.inside is not None or spec.boxes is not None:
        raise InputError(
            "views inside others, or around given boxes, have relations that their spec does not tell; say target_std"
        )
    with torch.device("cpu"):  # transformers builds models on the meta device, where nothing can be drawn
        keys, aspects = sample_keys(0, 0, _SAMPLES), torch.ones(_SAMPLES)
        if spec.grid is None:
            boxes = sample_boxes(keys, "relation_std", dataclasses.replace(spec, count=2), aspects)
            relations = relation(boxes[:, 0], boxes[:, 1], units)  # [samples, 4]
        else:
            numbers = uniform_streams(keys, layout_numbers(spec))
            first, second = ordered_pairs(spec.count)
            boxes = layout_boxes(numbers, spec, aspects)
            relations = relation(boxes[:, first], boxes[:, second], units).flatten(0, 1)  # [samples * P, 4]
        position, scale = relations.square().unflatten(-1, (2, 2)).mean(dim=(0, 2)).sqrt().tolist()
    return max(position, _LEAST_STD), max(scale, _LEAST_STD)


def check_view_count(views: Views | ViewSpec, objective: str) -> None:
    """Raise ``ValueError`` if there are no pairs."""
    count = views.count if isinstance(views, ViewSpec) else views.pixels.shape[1]
    if count < 2:
        raise InputError(f"{objective} compares pairs of views, but its view set has {count}; give it at least 2.")

"""Ordered pairs of an image's views, or of patches of two of its views, and the relation of the second to the first.

Letters: B images, V views of one image, N patches of one view, P ordered pairs: V(V-1) of views (i, j), i != j, or as
many as are drawn of patches.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .boxes import sample_boxes
from .geometry import Units, mirror, relation
from .keyed_random import sample_keys, uniform, uniform_streams
from .layout import layout_boxes, layout_numbers, within
from .sampler import Views
from .spec import ViewSpec

_SAMPLES = 4096  # images; the standard deviations are then exact to about one per cent
_PATCH_PAIRS = 8  # drawn of each of them
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


class PatchPairs(NamedTuple):
    """Pairs of patches of two views: int64 [B, P] each, patch n of view v is number v * N + n."""

    first: Tensor
    second: Tensor


def draw_patch_pairs(keys: Tensor, stream: str, views: int, patches: int, pairs: int) -> PatchPairs:
    """Pairs of patches, each of an ordered pair of distinct views drawn at random, each patch any of its view's N.

    Args:
        keys: int64 [B], one an image.
        stream: name of the random numbers.
        views, patches, pairs: V (at least 2), N and P.
    """
    u = uniform(keys, stream, (pairs, 3))  # [B, P, 3]
    both = (u[..., 0] * (views * (views - 1))).long()
    first, second = ordered_pairs(views, keys.device)
    in_first, in_second = (u[..., 1:] * patches).long().unbind(-1)
    return PatchPairs(first[both] * patches + in_first, second[both] * patches + in_second)


def patch_boxes(boxes: Tensor, flips: Tensor, grid: tuple[int, int]) -> Tensor:
    """Boxes of the patches of views, in the unflipped image.

    Args:
        boxes: [..., 4], cxcywh, of the views.
        flips: bool [...], views whose columns run from right to left in the image.
        grid: (rows, columns) of patches.

    Returns:
        [..., N, 4] cxcywh, row by row as the view shows them.
    """
    rows, columns = grid
    index = torch.arange(rows * columns, device=boxes.device)
    across, down = (index % columns + 0.5) / columns, (index // columns + 0.5) / rows  # [N]
    across = torch.where(flips[..., None], 1 - across, across)  # [..., N]
    shape = across.shape
    sides = (across.new_full(shape, 1 / columns), across.new_full(shape, 1 / rows))
    return within(boxes[..., None, :], torch.stack([across, down.expand(shape), *sides], dim=-1))


def patches_seen(boxes: Tensor, flips: Tensor, grid: tuple[int, int], pairs: PatchPairs) -> tuple[Tensor, Tensor]:
    """Boxes of the patches of pairs, in the frame in which the first one's view shows the image: two [B, P, 4].

    Args:
        boxes: [B, V, 4], cxcywh in the unflipped image, of the views.
        flips: bool [B, V].
        grid: (rows, columns) of patches.
        pairs: see :class:`PatchPairs`.
    """
    patches = patch_boxes(boxes, flips, grid)  # [B, V, N, 4]
    flipped = flips.gather(1, pairs.first // patches.shape[2])  # [B, P]
    first, second = (mirror(pick(patches.flatten(1, 2), index), flipped) for index in pairs)
    return first, second


def pick(x: Tensor, index: Tensor) -> Tensor:
    """Rows of each image: [B, M, C] at int64 [B, P] to [B, P, C]."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def relation_std(spec: ViewSpec, units: Units, patches: tuple[int, int] | None = None) -> tuple[float, float]:
    """Standard deviations (of offsets, of log ratios) between two views of a spec, on square images.

    Estimated from boxes drawn as the spec draws them, with keys of their own: deterministic, and PyTorch's
    global generator is left alone. The mean of every component is zero by symmetry. What hardly varies (boxes of
    one size have one scale) is taken to have the least standard deviation, 0.01, and so is not blown up.

    Args:
        spec: of the views.
        units: of the offset, image or first box.
        patches: (rows, columns) of a view: the standard deviations between patches of two views instead.

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
            boxes = sample_boxes(keys, "relation_std", dataclasses.replace(spec, count=2), aspects)  # [samples, 2, 4]
            first, second = torch.tensor([0]), torch.tensor([1])
        else:
            boxes = layout_boxes(uniform_streams(keys, layout_numbers(spec)), spec, aspects)
            first, second = ordered_pairs(spec.count)
        if patches is None:
            relations = relation(boxes[:, first], boxes[:, second], units)  # [samples, P, 4]
        else:
            views, cells = boxes.shape[1], patches[0] * patches[1]
            pairs = draw_patch_pairs(keys, "relation_std/patches", views, cells, _PATCH_PAIRS)
            unflipped = torch.zeros(boxes.shape[:2], dtype=torch.bool)
            relations = relation(*patches_seen(boxes, unflipped, patches, pairs), units)
        position, scale = relations.flatten(0, 1).square().unflatten(-1, (2, 2)).mean(dim=(0, 2)).sqrt().tolist()
    return max(position, _LEAST_STD), max(scale, _LEAST_STD)


def check_view_count(views: Views | ViewSpec, objective: str) -> None:
    """Raise ``ValueError`` if there are no pairs."""
    count = views.count if isinstance(views, ViewSpec) else views.pixels.shape[1]
    if count < 2:
        raise InputError(f"{objective} compares pairs of views, but its view set has {count}; give it at least 2.")

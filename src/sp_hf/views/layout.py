"""Layouts of a view set's boxes: on their own, in a grid, inside other views, or where boxes are given.

Letters: B images, V views of one image, W windows (V of them, or V / cells of a grid), P views of the parent set,
K given boxes of one image.

A window is drawn at random (:mod:`.boxes`) or taken from given boxes; inside a parent view, if the spec says so; and
cut into the cells of a grid, if it has one. Every step is exact and takes its numbers from a stream of its own, so that
one more step leaves the others' boxes as they were.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import InputError
from .boxes import BOX_NUMBERS, boxes_from
from .geometry import to_cxcywh, to_xyxy
from .spec import Grid, ViewSpec


def parents_first(specs: Mapping[str, ViewSpec]) -> list[str]:
    """The sets' names, each behind the one that it lies inside.

    Raises:
        ValueError: a parent that is not there, is turned, or lies inside its own child, or whose views cannot be shared
            out evenly.
    """
    order: dict[str, None] = {}

    def put(name: str, children: tuple[str, ...] = ()) -> None:
        spec = specs[name]
        if name in children:
            raise InputError(f"the views {' inside '.join([*children, name])} lie inside one another in a circle")
        if spec.inside is not None:
            if spec.inside not in specs:
                raise InputError(f"the views {name!r} lie inside {spec.inside!r}, but there are only {sorted(specs)}")
            parent = specs[spec.inside]
            if spec.windows % parent.count:
                raise InputError(
                    f"the views {name!r} lie inside {spec.inside!r}: {spec.windows} windows cannot be shared out evenly"
                    f" among {parent.count} views"
                )
            if parent.rotation:
                raise InputError(f"the views {name!r} lie inside {spec.inside!r}, which are turned; drop the rotation")
            put(spec.inside, (*children, name))
        order[name] = None

    for name in specs:
        put(name)
    return list(order)


def layout_numbers(spec: ViewSpec) -> dict[str, tuple[int, ...]]:
    """Streams of uniform numbers that the boxes of a set take, and how many of each an image."""
    numbers: dict[str, tuple[int, ...]] = {"box": (spec.windows, BOX_NUMBERS)}
    if spec.grid is not None:
        numbers["cell"] = (spec.count, 2)
    if spec.boxes is not None:
        numbers["choice"] = (spec.windows,)
        if spec.box_share < 1:
            numbers["share"] = (spec.windows,)
    if spec.rotation:
        numbers["angle"] = (spec.count,)
    return numbers


def layout_boxes(
    numbers: Mapping[str, Tensor],
    spec: ViewSpec,
    aspects: Tensor,
    parents: Tensor | None = None,
    given: Tensor | None = None,
) -> Tensor:
    """Boxes of a set's views, before any rotation.

    Args:
        numbers: uniform in [0, 1), by stream of :func:`layout_numbers`.
        spec: of the set.
        aspects: float [B], width / height of the images.
        parents: [B, P, 4] cxcywh, boxes that the windows lie inside; exactly where ``spec.inside``.
        given: [B, K, 4] cxcywh, boxes to choose from; a row without width is none. ``None``: all are drawn.

    Returns:
        [B, V, 4] cxcywh in the image.
    """
    if parents is None:
        windows = boxes_from(numbers["box"], spec, aspects)  # [B, W, 4]
    else:
        parents = parents.repeat_interleave(spec.windows // parents.shape[1], dim=1)  # [B, W, 4]
        windows = boxes_from(numbers["box"], spec, aspects[:, None] * parents[..., 2] / parents[..., 3])
        windows = within(parents, windows)
    if given is not None and given.shape[1]:
        chosen, has_any = choose(given.to(windows.device, windows.dtype), numbers["choice"], spec.box_context)
        taken = has_any[:, None]  # [B, 1], or [B, W] where only some windows are given boxes
        if spec.box_share < 1:
            taken = taken & (numbers["share"] < spec.box_share)
        windows = torch.where(taken[..., None], chosen, windows)
    return windows if spec.grid is None else cells(windows, spec.grid, numbers["cell"])


def within(parents: Tensor, boxes: Tensor) -> Tensor:
    """Boxes given in the frames of parent boxes, in the image's: [..., 4] and [..., 4] cxcywh to [..., 4]."""
    corner = parents[..., :2] - parents[..., 2:] / 2
    return torch.cat([corner + boxes[..., :2] * parents[..., 2:], boxes[..., 2:] * parents[..., 2:]], dim=-1)


def cells(windows: Tensor, grid: Grid, u: Tensor) -> Tensor:
    """The box in every cell of every window: [B, W, 4] and uniform numbers [B, W * cells, 2] to [B, W * cells, 4]."""
    index = torch.arange(grid.cells, device=windows.device)
    sides = windows.new_tensor([1 / grid.columns, 1 / grid.rows])  # of a cell, in the window
    middles = (torch.stack([index % grid.columns, index // grid.columns], dim=-1) + 0.5) * sides  # [cells, 2]
    extents = sides * (1 - grid.gap)
    jitter = (u.unflatten(1, (-1, grid.cells)) - 0.5) * (sides * max(grid.gap, 0.0) * grid.jitter)  # [B, W, cells, 2]
    centres = torch.minimum(torch.maximum(middles + jitter, extents / 2), 1 - extents / 2)
    return within(windows[:, :, None], torch.cat([centres, extents.expand_as(centres)], dim=-1)).flatten(1, 2)


def choose(given: Tensor, u: Tensor, context: float) -> tuple[Tensor, Tensor]:
    """One of the given boxes for each window, enlarged within the image.

    Args:
        given: [B, K, 4] cxcywh, rows without width or height are none.
        u: [B, W], uniform.
        context: enlargement as a share of the sides.

    Returns:
        [B, W, 4], and bool [B]: whether the image has any box.
    """
    real = (given[..., 2:] > 0).all(-1)  # [B, K]
    count = real.sum(-1)  # [B]
    order = (~real).int().argsort(dim=-1, stable=True)  # the real ones first
    rank = (u * count[:, None]).long().clamp(max=given.shape[1] - 1)  # [B, W]
    chosen = given.gather(1, order.gather(1, rank)[..., None].expand(-1, -1, 4))
    enlarged = torch.cat([chosen[..., :2], chosen[..., 2:] * (1 + context)], dim=-1)
    return to_cxcywh(to_xyxy(enlarged).clamp(0, 1)), count > 0


def position_boxes(boxes: Tensor, u: Tensor, window: tuple[int, int]) -> Tensor:
    """Boxes in a position field of which the image covers a window only.

    The window's side is Beta(a, b), for whole numbers the a-th smallest of a + b - 1 uniform numbers, and its place
    uniform: Content-position's position and scale augmentation (Liu, Suganuma, Okatani 2025).

    Args:
        boxes: [B, V, 4] cxcywh in the image.
        u: [B, a + b + 1], uniform.
        window: (a, b).
    """
    side = u[:, :-2].sort(dim=-1).values[:, window[0] - 1, None]  # [B, 1]
    corner = u[:, -2:] * (1 - side)  # [B, 2]
    frame = torch.cat([corner + side / 2, side, side], dim=-1)[:, None]  # [B, 1, 4]
    return within(frame, boxes)

"""The picture of detection: validation images with their objects, and what each model finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ...features import ImageSample
from ..dense.pictures import palette, save, thumbnail, wrapped
from .coco import decode_masks
from .heads import Answers
from .objects import ImageObjects

_SURE = 0.3
_CELL = 1.45  # inches
_MAX_LEGEND = 16


class Seen(NamedTuple):
    """One image of the sheet: its row of the sample, its objects, and a model's answers."""

    row: int
    truth: ImageObjects
    answers: Answers


def draw_objects(path: Path, seen: Mapping[str, Sequence[Seen]], images: ImageSample, names: Sequence[str]) -> None:
    """A column an image: its objects, then each model's answers of which it is sure, in rows.

    Args:
        path: of the picture.
        seen: by model, the same images.
        images: that they are of.
        names: of the classes.
    """
    first = next(iter(seen.values()))
    figure = Figure(figsize=(_CELL * len(first) + 1, _CELL * (len(seen) + 1) + 0.5), layout="constrained")
    panels = figure.subplots(len(seen) + 1, len(first), squeeze=False)
    colours = palette(max(9, len(names) + 1))[1:]
    for row, title in zip(panels, ("truth", *seen), strict=True):
        row[0].set_ylabel(wrapped(title), fontsize=7)
        for cell, one in zip(row, first if title == "truth" else seen[title], strict=True):
            cell.imshow(thumbnail(images, one.row), extent=(0, 1, 1, 0))
            cell.set(xlim=(0, 1), ylim=(1, 0), xticks=(), yticks=(), box_aspect=one.truth.size[0] / one.truth.size[1])
            if title == "truth":
                _draw_truth(cell, one, colours)
            else:
                _draw_answers(cell, one.answers, colours)
    if len(names) <= _MAX_LEGEND:
        handles = [Patch(color=colours[c], label=name) for c, name in enumerate(names)]
        figure.legend(handles=handles, loc="outside lower center", ncols=8, fontsize=7, frameon=False)
    save(figure, path)


def _draw_truth(cell: Axes, one: Seen, colours: np.ndarray) -> None:
    if one.answers.masks is not None and one.truth.masks is not None:
        masks = decode_masks(one.truth.masks, one.truth.size)
        _draw_masks(cell, masks, one.truth.labels, colours)
    else:
        _draw_boxes(cell, one.truth.boxes, one.truth.labels, colours)


def _draw_answers(cell: Axes, answers: Answers, colours: np.ndarray) -> None:
    sure = (answers.scores > _SURE).numpy()
    if answers.masks is not None:
        _draw_masks(cell, answers.masks.numpy()[sure], answers.labels.numpy()[sure], colours)
    elif answers.boxes is not None:
        _draw_boxes(cell, answers.boxes.numpy()[sure], answers.labels.numpy()[sure], colours)


def _draw_boxes(cell: Axes, boxes: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> None:
    for (cx, cy, w, h), label in zip(boxes, labels, strict=True):
        corner = (cx - w / 2, cy - h / 2)
        cell.add_patch(Rectangle(corner, w, h, fill=False, edgecolor="white", linewidth=2.2))
        cell.add_patch(Rectangle(corner, w, h, fill=False, edgecolor=colours[label % len(colours)], linewidth=1.2))


def _draw_masks(cell: Axes, masks: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> None:
    for mask, label in zip(masks, labels, strict=True):
        colour = colours[label % len(colours)]
        layer = np.zeros((*mask.shape, 4))
        layer[mask] = (*colour, 0.6)
        cell.imshow(layer, extent=(0, 1, 1, 0), interpolation="nearest")
        if mask.any() and not mask.all():
            height, width = mask.shape
            x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
            cell.contour(x, y, mask, levels=[0.5], colors=["white"], linewidths=0.5)

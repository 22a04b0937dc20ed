"""The picture of correspondence: pairs of images, keypoints of the first and where models find them in the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from ...features import ImageSample
from ...what.dense.pictures import palette, save, thumbnail, wrapped


class Pair(NamedTuple):
    """Rows of source and target; keypoints of the source, of the target, and answers, [K, 2] in (x, y) each."""

    rows: tuple[int, int]
    points: Tensor
    truth: Tensor
    answer: Tensor


def draw_pairs(path: Path, pairs: Mapping[str, Sequence[Pair]], images: ImageSample) -> None:
    """A row a pair: the source, then the target with each model's answers.

    Args:
        path: of the picture.
        pairs: by model, the same ones.
        images: that they are of.
    """
    shown = list(zip(*pairs.values(), strict=True))
    figure = Figure(figsize=(1.5 * (len(pairs) + 1), 1.5 * len(shown) + 0.4), layout="constrained")
    panels = figure.subplots(len(shown), len(pairs) + 1, squeeze=False)
    for cell, title in zip(panels[0], ("source", *pairs), strict=True):
        cell.set_title(wrapped(title), fontsize=7)
    for row, drawn in zip(panels, shown, strict=True):
        first = drawn[0]
        colours = palette(max(9, len(first.points) + 1))[1 : len(first.points) + 1]
        for cell, of in zip(row, (first.rows[0], *(pair.rows[1] for pair in drawn)), strict=True):
            cell.imshow(thumbnail(images, of), extent=(0, 1, 1, 0))
            cell.set(xlim=(0, 1), ylim=(1, 0), xticks=(), yticks=(), aspect="equal")
        row[0].scatter(*first.points.T, c=colours, s=14, edgecolors="white", linewidths=0.5)
        for cell, pair in zip(row[1:], drawn, strict=True):
            cell.scatter(*pair.truth.T, facecolors="none", edgecolors=colours, s=30, linewidths=1)
            cell.scatter(*pair.answer.T, c=colours, marker="x", s=16, linewidths=1)
    save(figure, path)

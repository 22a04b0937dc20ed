"""Sheets of jigsaw puzzles: shuffled, as each model puts them back, and in their true order.

Letters: S image side in px, g cells a side, T = g^2 tiles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from ...short_names import short_names
from .tiles import Puzzle, lay

_WRONG = "#e5141e"
_LONGEST = 22  # characters of a model's name
_OUTLINES = (("black", 3.6), ("white", 2.4))  # and widths: on any colour, one of the three is seen


@dataclasses.dataclass(frozen=True)
class SolvedPuzzle:
    """One image as it was cut and put back.

    Args:
        puzzle: how it was cut.
        shuffled, predicted, ordered: uint8 [3, S, S].
        wrong: bool [T], the places in which the prediction puts a tile of another.
    """

    puzzle: Puzzle
    shuffled: Tensor
    predicted: Tensor
    ordered: Tensor
    wrong: Tensor


def solved_puzzles(
    puzzle: Puzzle, pixels: Tensor, keys: Tensor, cells: Tensor, predicted: Tensor
) -> list[SolvedPuzzle]:
    """Lay the tiles of images in the order in which they are handed out, as predicted, and in their own.

    Args:
        puzzle: how images are cut.
        pixels: uint8 [n, 3, S, S].
        keys: int64 [n].
        cells, predicted: int64 [n, T], where each tile belongs and is put.
    """
    truth = torch.arange(puzzle.tiles).expand_as(cells)
    places = torch.empty_like(predicted).scatter_(1, cells, predicted)  # of the tile of each cell
    laid = [lay(puzzle, pixels, keys, order) for order in (cells.argsort(-1), places, truth)]
    return [SolvedPuzzle(puzzle, *images) for images in zip(*laid, places.argsort(-1) != truth, strict=True)]


def draw_sheet(path: Path, models: Mapping[str, Sequence[SolvedPuzzle]]) -> None:
    """A row an image: shuffled, as each model puts it back, true; red frames are wrong, counts are tiles put right.

    Args:
        path: of the picture.
        models: the same images of each, by name; the last one's shuffled and true images are shown.
    """
    *_, shown = models.values()
    columns = len(models) + 2
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03)
    figure = Figure(figsize=(1.5 * columns, 1.6 * len(shown) + 0.3), layout=layout)
    panels = figure.subplots(len(shown), columns, squeeze=False)
    for axes, title in zip(panels[0], ("shuffled", *short_names(models, _LONGEST).values(), "true order"), strict=True):
        axes.set_title(title, fontsize=7)
    for row, puzzle in zip(panels, shown, strict=True):
        _draw_image(row[0], puzzle.shuffled, puzzle.puzzle.grid)
        _draw_image(row[-1], puzzle.ordered, puzzle.puzzle.grid)
    for column, puzzles in zip(panels.T[1:-1], models.values(), strict=True):
        for axes, puzzle in zip(column, puzzles, strict=True):
            _draw_image(axes, puzzle.predicted, puzzle.puzzle.grid)
            _frame(axes, puzzle)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130)


def _draw_image(axes: Axes, pixels: Tensor, grid: int) -> None:
    interpolation = "nearest" if pixels.shape[-1] > 200 else "bicubic"
    axes.imshow(pixels.permute(1, 2, 0).numpy(), extent=(0, grid, grid, 0), interpolation=interpolation)
    axes.set_axis_off()


def _frame(axes: Axes, puzzle: SolvedPuzzle) -> None:
    grid, gap = puzzle.puzzle.grid, puzzle.puzzle.gap
    for place in puzzle.wrong.nonzero()[:, 0].tolist():
        corner = (place % grid + gap / 2, place // grid + gap / 2)
        frame = Rectangle(corner, 1 - gap, 1 - gap, fill=False, edgecolor=_WRONG, linewidth=1.2)
        frame.set_path_effects([*(Stroke(linewidth=width, foreground=colour) for colour, width in _OUTLINES), Normal()])
        axes.add_patch(frame)
    right = int((~puzzle.wrong).sum())
    axes.text(grid / 2, grid * 1.01, f"{right} of {grid**2}", fontsize=6, ha="center", va="top", clip_on=False)

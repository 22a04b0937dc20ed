"""The picture of patch positions: where a probe takes the patches of noise to be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from ...what.dense.pictures import save, wrapped

_COLUMNS = 7


def draw_positions(path: Path, answers: Mapping[str, tuple[tuple[int, int], Tensor]]) -> None:
    """A panel a model: the answers, joined to those of neighbouring patches.

    Args:
        path: of the picture.
        answers: by model, its grid (h, w) and (row, column) [h w, 2] from the middle of the image.
    """
    columns = min(_COLUMNS, len(answers))
    rows = -(-len(answers) // columns)
    figure = Figure(figsize=(1.9 * columns + 0.3, 2.2 * rows + 0.1), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(answers) :]:
        axes.set_visible(False)
    for axes, (name, (grid, places)) in zip(panels, answers.items(), strict=False):
        y, x = places.T.unflatten(1, grid).numpy()
        for line in range(grid[0]):
            axes.plot(x[line], y[line], color="#2e86ab", linewidth=0.7)
        for line in range(grid[1]):
            axes.plot(x[:, line], y[:, line], color="#e4572e", linewidth=0.7)
        axes.set(xlim=(-0.6, 0.6), ylim=(0.6, -0.6), xticks=(), yticks=(), aspect="equal")
        axes.set_title(wrapped(name), fontsize=7)
    save(figure, path)

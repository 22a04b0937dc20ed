"""The picture of patch positions: where a probe takes the patches of noise to be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from ...what.dense.pictures import save, wrapped


def draw_positions(path: Path, answers: Mapping[str, tuple[tuple[int, int], Tensor]]) -> None:
    """A panel a model: the answers, joined to those of neighbouring patches.

    Args:
        path: of the picture.
        answers: by model, its grid (h, w) and (row, column) [h w, 2] from the middle of the image.
    """
    figure = Figure(figsize=(1.9 * len(answers) + 0.3, 2.3), layout="constrained")
    panels = figure.subplots(1, len(answers), squeeze=False)[0]
    for axes, (name, (grid, places)) in zip(panels, answers.items(), strict=True):
        rows, columns = places.T.unflatten(1, grid).numpy()
        for line in range(grid[0]):
            axes.plot(columns[line], rows[line], color="#2e86ab", linewidth=0.7)
        for line in range(grid[1]):
            axes.plot(columns[:, line], rows[:, line], color="#e4572e", linewidth=0.7)
        axes.set(xlim=(-0.6, 0.6), ylim=(0.6, -0.6), xticks=(), yticks=(), aspect="equal")
        axes.set_title(wrapped(name), fontsize=7)
    save(figure, path)

"""The picture of the robustness task: accuracy against severity, a panel for each corruption.

Letters: C = 15 corruptions, L = 5 severities, S side in px.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .corruptions import CORRUPTIONS, GROUPS, SEVERITIES

_COLUMNS = 5
FLOORS = ("#9a9a9a", "#c9c2b8")  # controls come first and recede
COLOURS = ("#e4572e", "#1b7f8c", "#7a5ccf", "#d9a300", "#d6408a", "#3f9b46", "#5b6b7b")


def draw_curves(
    path: Path, curves: Mapping[str, np.ndarray], examples: Sequence[np.ndarray], controls: int = 0
) -> None:
    """Write the picture.

    Args:
        path: of a PNG.
        curves: accuracies [C, 1 + L] by model: clean, then by severity.
        examples: one picture uint8 [S, S, 3] of each corruption.
        controls: the first so many models are controls, drawn in grey.
    """
    rows = -(-len(CORRUPTIONS) // _COLUMNS)
    figure = Figure(figsize=(2.5 * _COLUMNS, 3.1 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * rows, _COLUMNS, height_ratios=[0.62, 1] * rows, squeeze=False)
    group_of = {name: group for group, members in GROUPS.items() for name in members}
    top = max(float(values.max()) for values in curves.values())
    for index, name in enumerate(CORRUPTIONS):
        row, column = divmod(index, _COLUMNS)
        picture, plot = axes[2 * row][column], axes[2 * row + 1][column]
        picture.imshow(examples[index], interpolation="nearest")
        picture.set_axis_off()
        picture.set_title(f"{group_of[name]}: {name.replace('_', ' ')}", fontsize=9)
        for place, (model, values) in enumerate(curves.items()):
            floor = place < controls
            colour = FLOORS[place % 2] if floor else COLOURS[(place - controls) % len(COLOURS)]
            style = {"linestyle": "--"} if floor else {"marker": "o", "markersize": 3}
            plot.plot([0, *SEVERITIES], 100 * values[index], color=colour, label=model, **style)
        plot.set(xlim=(-0.1, 5.1), ylim=(0, min(100, 110 * top)), xticks=[0, *SEVERITIES])
        plot.grid(alpha=0.25)
        plot.spines[["top", "right"]].set_visible(False)
        plot.tick_params(labelsize=7)
        if column == 0:
            plot.set_ylabel("accuracy %", fontsize=8)
        if row == rows - 1:
            plot.set_xlabel("severity", fontsize=8)
    handles, labels = axes[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)

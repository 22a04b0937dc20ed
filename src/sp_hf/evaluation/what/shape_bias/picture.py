"""The picture of the shape-bias task, after figure 4 of Geirhos et al. 2019 (arXiv:1811.12231).

Letters: K classes, S side of a thumbnail in px.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from ..robustness.pictures import COLOURS, FLOORS

_MARKERS = "osD^vP*X"


def draw_fractions(
    path: Path,
    fractions: Mapping[str, Mapping[str, float | None]],
    averages: Mapping[str, float],
    thumbnails: Mapping[str, np.ndarray],
    controls: int = 0,
) -> None:
    """Write the picture.

    Args:
        path: of a PNG.
        fractions: of shape decisions, by model and class; ``None`` where there were no decisions for either cue.
        averages: over all images, by model; drawn as a line.
        thumbnails: uint8 [S, S, 3] by class.
        controls: the first so many models are controls, drawn in grey.
    """
    classes = list(dict.fromkeys(name for of_class in fractions.values() for name in of_class))
    figure = Figure(figsize=(7.5, 0.55 * len(classes) + 1.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, (model, of_class) in enumerate(fractions.items()):
        floor = place < controls
        colour = FLOORS[place % len(FLOORS)] if floor else COLOURS[(place - controls) % len(COLOURS)]
        points = [(of_class[name], row) for row, name in enumerate(classes) if of_class.get(name) is not None]
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(
            x, y, _MARKERS[place % len(_MARKERS)], color=colour, label=model, markersize=6, alpha=0.9, clip_on=False
        )
        if model in averages:
            axes.axvline(averages[model], color=colour, linewidth=1.5, linestyle="--" if floor else "-", alpha=0.7)
    for row, name in enumerate(classes):
        if name in thumbnails:
            zoom = 34 / thumbnails[name].shape[0]
            box = AnnotationBbox(
                OffsetImage(thumbnails[name], zoom=zoom), (0, row), xybox=(-24, 0), xycoords=("axes fraction", "data"),
                boxcoords="offset points", frameon=False, pad=0,
            )  # fmt: skip
            axes.add_artist(box)
    axes.set(xlim=(0, 1), ylim=(len(classes) - 0.4, -0.6), xticks=np.linspace(0, 1, 6), yticks=range(len(classes)))
    axes.set_yticklabels(classes, fontsize=9)
    axes.tick_params(axis="y", length=0, pad=46)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("fraction of shape decisions      (0: all by texture, 1: all by shape)")
    figure.legend(loc="outside lower center", ncols=min(3, len(fractions)), fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)

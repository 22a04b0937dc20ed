"""Metrics by layer, and the layer that the training images choose.

Letters: n images, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ...measure import Measure
from ...what.dense.pictures import save
from ..relative_geometry.pictures import colour_of, line_of

TITLES = {
    "r2_position": "R2 of the crops' relative position",
    "r2_scale": "R2 of their relative scale",
    "r2_patch_position": "R2 of patches' place",
}


def curve_of(measures: Sequence[Measure], seed: int) -> list[dict[str, float]]:
    """As JSON can hold it: layer, value and 95 % interval of each."""
    estimates = [measure.estimate(seed) for measure in measures]
    return [{"layer": layer, "value": e.value, "low": e.low, "high": e.high} for layer, e in enumerate(estimates)]


def draw_curves(path: Path, details: Mapping[str, Mapping[str, Any]]) -> None:
    """A panel a metric, a line a model: the metric by depth, 0 being the embeddings and 1 the encoder's output.

    Args:
        path: of the picture.
        details: of each model's result: ``curves``, ``{metric: [{layer, value, low, high}]}``.
    """
    figure = Figure(figsize=(3.2 * len(TITLES), 2.9), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, len(TITLES)), TITLES.items(), strict=True):
        for index, (name, detail) in enumerate(details.items()):
            points = detail["curves"][metric]
            depth = [point["layer"] / (len(points) - 1) for point in points]
            low, high = ([point[end] for point in points] for end in ("low", "high"))
            axes.plot(depth, [p["value"] for p in points], label=name, markersize=3, linewidth=1, **line_of(index))
            axes.fill_between(depth, low, high, color=colour_of(index), alpha=0.15, linewidth=0)
        axes.set_xlabel("depth", fontsize=7)
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=7, frameon=False)
    save(figure, path)

"""The pictures of a run: sample views with their boxes on their images, and its curves."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..data.canvas import UnreadableImage, make_canvas
from ..data.datasets import LoadedImages
from ..views.keyed_random import sample_keys
from ..views.sampler import ViewSampler
from ..views.spec import ViewSpec

COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#f26ca7")
MOST_VIEWS = len(COLOURS)  # drawn of each set


def draw_views(
    path: Path, images: LoadedImages, canvas_size: int, specs: Mapping[str, ViewSpec], seed: int, rows: int = 4
) -> None:
    """A sheet: in each row one image, for each view set once with its boxes and then cut into the views.

    The frame of a view has the colour of its box; a dashed frame says that the view is mirrored.
    """
    canvases: list[Tensor] = []
    aspects: list[float] = []
    for row in itertools.islice(iter(images.dataset), 4 * rows):
        try:
            pixels, ratio = make_canvas(row[images.image_column], canvas_size)
        except UnreadableImage:
            continue  # the run itself counts and reports it
        canvases.append(torch.as_tensor(pixels))
        aspects.append(ratio)
        if len(canvases) == rows:
            break
    if not canvases:
        return
    keys = sample_keys(seed, 0, len(canvases))
    views = ViewSampler(specs)(torch.stack(canvases), torch.tensor(aspects, dtype=torch.float32), keys)
    shown = {name: min(spec.count, MOST_VIEWS) for name, spec in specs.items()}
    widths = [width for count in shown.values() for width in (1.5, *[1] * count)]
    figure = Figure(figsize=(1.15 * sum(widths), 1.25 * len(canvases) + 0.2), layout="constrained")
    axes = figure.subplots(len(canvases), len(widths), width_ratios=widths, squeeze=False)
    for i, (canvas, aspect) in enumerate(zip(canvases, aspects, strict=True)):
        cell = 0
        for name, drawn in views.items():
            of_image, of_views = axes[i][cell], axes[i][cell + 1 : cell + 1 + shown[name]]
            cell += 1 + shown[name]
            _draw_image(of_image, canvas, aspect)
            if i == 0:
                of_image.set_title(name, fontsize=8, loc="left")
            for j, of_view in enumerate(of_views):
                boxes, flips = drawn.drawn
                box, flip, colour = boxes[i, j].tolist(), bool(flips[i, j]), COLOURS[j]
                _draw_box(of_image, box, colour, flip)
                _draw_view(of_view, drawn.pixels[i, j], colour, flip)
    _save(figure, path)


def draw_curves(path: Path, metrics: Path) -> None:
    """Every logged metric over the run, a panel each. Does nothing when nothing was logged."""
    series: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for line in metrics.read_text().splitlines():
        record = json.loads(line)
        for name, value in record.items():
            if name not in ("step", "epoch", "weight_decay") and not name.startswith(("train_", "total_")):
                series[name].append((record["step"], value))
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return
    columns = min(4, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (name, points) in zip(panels, sorted(series.items()), strict=False):
        panel.plot(*zip(*points, strict=True), color="#2e86ab", linewidth=1.3)
        panel.set_title(name, fontsize=8)
        panel.tick_params(labelsize=6)
        panel.grid(alpha=0.25)
    for panel in panels[len(series) :]:
        panel.set_visible(False)
    _save(figure, path)


def _draw_image(axes: Axes, canvas: torch.Tensor, aspect: float) -> None:
    axes.imshow(canvas.permute(1, 2, 0).numpy(), extent=(0, 1, 1, 0), aspect=1 / aspect)
    axes.set_axis_off()


def _draw_box(axes: Axes, box: list[float], colour: str, flip: bool) -> None:
    cx, cy, w, h = box
    style: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": 1.2, "linestyle": "--" if flip else "-"}
    axes.add_patch(Rectangle((cx - w / 2, cy - h / 2), w, h, **style))


def _draw_view(axes: Axes, pixels: torch.Tensor, colour: str, flip: bool) -> None:
    axes.imshow(np.clip(pixels.float().permute(1, 2, 0).numpy(), 0, 1))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=1.8, linestyle="--" if flip else "-")


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130)

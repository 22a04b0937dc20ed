"""Pictures of dense predictions: validation images beside their annotations and what each model makes of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from ....data.canvas import make_canvas
from ...features import ImageSample

IMAGES = 6  # of a sheet
_THUMBNAIL = 256  # px
_VOID = (1.0, 1.0, 1.0)
_CELL = 1.45  # inches
_MAX_LEGEND = 32


class Panel(NamedTuple):
    """One image of a sheet.

    Args:
        image: uint8 [S, S, 3], squashed onto a square.
        shape: (H, W), the proportions it is drawn in.
        predicted: [h, w, ...] of any resolution.
        truth: [H, W], if there is one.
    """

    image: np.ndarray
    shape: tuple[int, int]
    predicted: np.ndarray
    truth: np.ndarray | None = None


def shown(n: int) -> range:
    """Which of n images are drawn: evenly spaced ones."""
    return range(0, n, -(-n // IMAGES))


def thumbnail(images: ImageSample, row: int) -> np.ndarray:
    """A whole image of a sample, squashed: uint8 [S, S, 3]."""
    return make_canvas(images.rows[row][images.images.image_column], _THUMBNAIL)[0].transpose(1, 2, 0)


def palette(classes: int) -> np.ndarray:
    """One colour a class: [C, 3] in [0, 1]. The first, often the background, is dark."""
    if classes <= 20:
        pairs = np.array(colormaps["tab20"](range(20)))[:, :3].reshape(10, 2, 3)  # hues, full and pale
        order = [7, 0, 1, 2, 3, 4, 5, 6, 8, 9]  # grey first
        colours = np.concatenate([pairs[order, 0], pairs[order, 1]])
    else:  # golden-angle hues at several lightnesses stay apart longest
        index = np.arange(classes)
        hues = index * 0.618034 % 1
        colours = hsv_to_rgb(np.stack([hues, 0.55 + 0.4 * (index % 2), 0.95 - 0.2 * (index % 3)], axis=1))
    colours[0] = (0.16, 0.17, 0.2)
    return colours[:classes]


def draw_segmentation(path: Path, panels: Mapping[str, Sequence[Panel]], names: Sequence[str]) -> None:
    """A row an image: itself, its annotation (void is white) and each model's prediction.

    Args:
        path: of the picture.
        panels: by model, of the same images; classes are indices, -1 for void.
        names: of the classes.
    """
    colours = np.vstack([palette(len(names)), _VOID])
    figure, axes = _sheet(panels, ("image", "annotation", *panels), legend=len(names) <= _MAX_LEGEND)
    for row, drawn in zip(axes, zip(*panels.values(), strict=True), strict=True):
        first = drawn[0]
        _show(row[0], first.image, first.shape)
        for cell, classes in zip(row[1:], [first.truth, *(panel.predicted for panel in drawn)], strict=True):
            _show(cell, colours[classes], first.shape)
    if len(names) <= _MAX_LEGEND:
        handles = [Patch(color=colour, label=name) for colour, name in zip(colours, names, strict=False)]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(9, len(names)), fontsize=7, frameon=False)
    save(figure, path)


def draw_depth(path: Path, panels: Mapping[str, Sequence[Panel]]) -> None:
    """A row an image: itself, its depth (white: not known) and each model's, on one logarithmic scale a row.

    Args:
        path: of the picture.
        panels: by model, of the same images; depths in metres, NaN where not known.
    """
    figure, axes = _sheet(panels, ("image", "depth", *panels), legend=False)
    for row, drawn in zip(axes, zip(*panels.values(), strict=True), strict=True):
        first = drawn[0]
        _show(row[0], first.image, first.shape)
        known = first.truth[np.isfinite(first.truth)]
        low, high = (known.min(), known.max()) if len(known) else (1.0, 1.0)
        scale = LogNorm(low, max(high, 1.01 * low), clip=True)
        for cell, depth in zip(row[1:], [first.truth, *(panel.predicted for panel in drawn)], strict=True):
            picture = _show(cell, depth, first.shape, norm=scale, cmap="magma_r")
        bar = figure.colorbar(picture, ax=row[-1], fraction=0.06, pad=0.04)
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.yaxis.set_major_formatter(FormatStrFormatter("%g m"))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.tick_params(labelsize=6)
    save(figure, path)


def draw_class_iou(path: Path, scores: Mapping[str, Mapping[str, float | None]]) -> None:
    """Bars by class, one a model.

    Args:
        path: of the picture.
        scores: by model, by class; ``None`` for classes that the validation annotations lack.
    """
    names = [name for name, value in next(iter(scores.values())).items() if value is not None]
    best = {name: max(of_class[name] or 0.0 for of_class in scores.values()) for name in names}
    names.sort(key=lambda name: -best[name])
    figure = Figure(figsize=(max(5.0, 0.16 * len(names) * (len(scores) + 1) + 1.5), 2.8), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(scores)
    for index, (model, of_class) in enumerate(scores.items()):
        places = np.arange(len(names)) + (index - (len(scores) - 1) / 2) * width
        axes.bar(places, [100 * (of_class[name] or 0.0) for name in names], width, label=model)
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=0 if len(names) <= 12 else 90)
    axes.set_ylabel("IoU %", fontsize=8)
    axes.tick_params(axis="y", labelsize=7)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.legend(fontsize=7, frameon=False)
    save(figure, path)


def draw_maps(path: Path, panels: Mapping[str, Sequence[Panel]]) -> None:
    """A row an image: itself, and each model's map of colours [h, w, 3], interpolated between tokens.

    Args:
        path: of the picture.
        panels: by model, of the same images; ``predicted`` holds colours in [0, 1].
    """
    figure, axes = _sheet(panels, ("image", *panels), legend=False)
    for row, drawn in zip(axes, zip(*panels.values(), strict=True), strict=True):
        shape = drawn[0].shape
        _show(row[0], drawn[0].image, shape)
        for cell, panel in zip(row[1:], drawn, strict=True):
            _show(cell, panel.predicted, shape, interpolation="bicubic")
    save(figure, path)


def _sheet(panels: Mapping[str, Sequence[Panel]], titles: Sequence[str], legend: bool) -> tuple[Figure, np.ndarray]:
    """An empty sheet, and its axes [rows, columns]."""
    first = next(iter(panels.values()))
    aspect = np.mean([panel.shape[0] / panel.shape[1] for panel in first])
    width, height = (_CELL, _CELL * aspect) if aspect < 1 else (_CELL / aspect, _CELL)
    size = (width * len(titles) + 0.4, (height + 0.05) * len(first) + (0.7 if legend else 0.35))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01))
    axes = figure.subplots(len(first), len(titles), squeeze=False)
    for cell, title in zip(axes[0], titles, strict=True):
        cell.set_title(wrapped(title), fontsize=7)
    return figure, axes


def wrapped(title: str, width: int = 20) -> str:
    """On lines of at most ``width`` letters, and of a long name only the end: folders differ there."""
    title = title if len(title) <= 2 * width else "..." + title[3 - 2 * width :]
    return textwrap.fill(title, width)


def _show(axes: Axes, pixels: np.ndarray, shape: tuple[int, int], **style: Any) -> AxesImage:
    """Stretched to the proportions of the annotation."""
    axes.set_axis_off()
    height, width = shape
    return axes.imshow(pixels, **{"extent": (0, width, height, 0), "interpolation": "nearest", **style})


def save(figure: Figure, path: Path) -> None:
    """Write a picture without a window system."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130)

"""Pictures of relative geometry: predicted boxes over true ones, and metrics by distance and by overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from ....views.geometry import apply_relation, box_iou

FIRST, SECOND = "-", (0, (2, 1.5))  # line styles of where the crops are
COLOURS = ("#8d99ae", "#b08968", "#e4572e", "#2e86ab", "#f26ca7", "#5a9367", "#ffc914", "#6a4c93")


def colour_of(index: int) -> str:
    """One colour a model, in the order of the table."""
    return COLOURS[index % len(COLOURS)]


def line_of(index: int) -> dict[str, Any]:
    """Colour, line and marker of a model's curve: models of one colour differ in the other two."""
    again = index // len(COLOURS)
    return {
        "color": colour_of(index),
        "linestyle": ("-", "--", ":", "-.")[again % 4],
        "marker": ("o", "s", "^", "D")[again % 4],
    }


def draw_predictions(path: Path, artifacts: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """A row a model, a column an image: the pair of its first two crops, the second as it is and as predicted.

    Args:
        path: of the PNG.
        artifacts: by model: ``canvases`` uint8 [n, 3, S, S], ``aspects`` [n], ``boxes`` [n, V, 4] and ``predicted``
            [n, P, 4], relations of all ordered pairs.
    """
    columns = max(len(artifact["boxes"]) for artifact in artifacts.values())
    figure = Figure(figsize=(1.5 * columns, 1.55 * len(artifacts) + 0.35), layout="constrained")
    axes = figure.subplots(len(artifacts), columns, squeeze=False)
    _draw_legend(figure)
    for row, (name, artifact) in enumerate(artifacts.items()):
        first, second = artifact["boxes"][:, 0].double(), artifact["boxes"][:, 1].double()
        answer = apply_relation(first, artifact["predicted"][:, 0].double())  # pair (0, 1) is the first of all
        overlaps = box_iou(answer, second).tolist()
        for column, panel in enumerate(axes[row]):
            if column >= len(overlaps):
                panel.set_visible(False)
                continue
            _draw_image(panel, artifact["canvases"][column], float(artifact["aspects"][column]))
            _draw_box(panel, first[column].tolist(), "white", FIRST, 1.2)
            _draw_box(panel, second[column].tolist(), "white", SECOND, 1.2)
            _draw_box(panel, answer[column].tolist(), colour_of(row), "-", 1.8)
            panel.set_title(f"IoU {overlaps[column]:.2f}", fontsize=6, pad=2)
        at = {"x": -0.06, "y": 0.5, "rotation": 90, "va": "center", "ha": "right"}
        axes[row][0].text(s=name, fontsize=7, color=colour_of(row), transform=axes[row][0].transAxes, **at)
    _save(figure, path)


def _draw_legend(figure: Figure) -> None:
    lines = (
        ("first crop", "white", FIRST),
        ("second crop, where it is", "white", SECOND),
        ("second crop, as the model says, seen from the first", COLOURS[2], "-"),
    )
    handles = [Line2D([], [], color=colour, ls=style, lw=1.8, label=label) for label, colour, style in lines]
    look = {"facecolor": "#55585c", "edgecolor": "none", "labelcolor": "white", "fontsize": 7, "handlelength": 3}
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), **look)


def _draw_image(axes: Axes, canvas: torch.Tensor, aspect: float) -> None:
    axes.imshow(canvas.permute(1, 2, 0).numpy(), extent=(0, 1, 1, 0), aspect=1 / aspect)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(1.02, -0.02)
    axes.set_axis_off()


def _draw_box(axes: Axes, box: Sequence[float], colour: str, style: Any, width: float) -> None:
    cx, cy, w, h = box
    patch = Rectangle((cx - w / 2, cy - h / 2), w, h, fill=False, edgecolor=colour, linestyle=style, linewidth=width)
    patch.set_path_effects([Stroke(linewidth=width + 1, foreground="black", alpha=0.6), Normal()])
    axes.add_patch(patch)


_PANELS = (
    ("distance", "r2_position", "R2 of position"),
    ("distance", "r2_scale", "R2 of scale"),
    ("overlap", "r2_position", "R2 of position"),
    ("overlap", "r2_scale", "R2 of scale"),
)


def draw_bins(path: Path, bins: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> None:
    """R2 of position and of scale by distance and by overlap, a line a model.

    Args:
        path: of the PNG.
        bins: by model, as :func:`~sp_hf.evaluation.where.relative_geometry.measures.binned_metrics` makes them.
    """
    figure = Figure(figsize=(12.5, 3.1), layout="constrained")
    for panel, (quantity, key, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        for index, (name, of_model) in enumerate(bins.items()):
            _draw_line(panel, of_model[quantity], key, name, index, len(bins))
        some = next(iter(bins.values()))[quantity]
        panel.set_xticks(range(len(some)), [f"{_named(b)}\n{b['pairs']} pairs" for b in some], fontsize=6.5)
        panel.axhline(0, color="black", linewidth=0.6)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel({"distance": "distance of centres", "overlap": "IoU of the two crops"}[quantity], fontsize=8)
        panel.tick_params(axis="y", labelsize=7)
        panel.grid(axis="y", alpha=0.25)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    _save(figure, path)


def _draw_line(axes: Axes, bins: Sequence[Mapping[str, Any]], key: str, name: str, index: int, models: int) -> None:
    shift = min(0.06, 0.7 / models) * (index - (models - 1) / 2)  # lest bars of one bin hide each other
    points = [(place + shift, entry[key]) for place, entry in enumerate(bins) if key in entry]
    values = [metric["value"] for _, metric in points]
    below = [metric["value"] - metric["low"] for _, metric in points]
    above = [metric["high"] - metric["value"] for _, metric in points]
    axes.errorbar(
        [place for place, _ in points], values, yerr=[below, above], label=name, **line_of(index),
        markersize=3.5, linewidth=1.3, elinewidth=0.9, capsize=1.5,
    )  # fmt: skip


def _named(entry: Mapping[str, Any]) -> str:
    if entry["low"] == entry["high"]:
        return "none"
    return f"> {entry['low']:g}" if entry["high"] is None else f"{entry['low']:g}\u2013{entry['high']:g}"


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130)

"""The picture of what against where: every model a dot, by its first metric of a where-task and of each what-task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .metric_text import measured_headline, title_of
from .short_names import names_in_tables

_COLUMNS = 3
_COLOURS = ("#e4572e", "#2e86ab", "#5a9367", "#f26ca7", "#ffc914", "#6a4c93", "#8a5a44")
_CONTROLS = ("#8d99ae", "#4d4d4d", "#b8b0a4")  # recede
_MARKERS = "osD^vP*X"


def what_where_points(results: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, tuple[dict, dict]]]:
    """The metrics of every model, by panel.

    Returns:
        ``{(where-task, what-task): {model: (where, what)}}``, of the first where-task that has metrics and all such
        what-tasks; each metric is a measure of ``results.json``. Without one of either kind: empty.
    """
    tasks = {kind: [n for n, t in results["tasks"].items() if t["kind"] == kind and measured_headline(t)]
             for kind in ("where", "what")}  # fmt: skip
    panels: dict[tuple[str, str], dict[str, tuple[dict, dict]]] = {}
    for where in tasks["where"][:1]:
        for what in tasks["what"]:
            x, y = (_first_metrics(results["tasks"][name]) for name in (where, what))
            panels[where, what] = {model: (x[model], y[model]) for model in x if model in y}
    return {panel: points for panel, points in panels.items() if points}


def _first_metrics(task: Mapping[str, Any]) -> dict[str, dict]:
    """The metric that stands for the task, of every model that has it."""
    key = measured_headline(task)[0]
    return {model: r["measures"][key] for model, r in task["results"].items() if key in r["measures"]}


def draw_what_where(path: Path, results: Mapping[str, Any]) -> bool:
    """Draw it, with 95 % intervals as bars; whether there is anything to draw."""
    panels, names = what_where_points(results), names_in_tables(results)
    if not panels:
        return False
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.3 * columns + 1.8, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    styles = _styles(results)
    for axes, ((where, what), points) in zip(grid, panels.items(), strict=False):
        for model, (x, y) in points.items():
            _draw_dot(axes, x, y, names[model], *styles[model])
        axes.set_xlabel(_label(where, results["tasks"][where]), fontsize=7)
        axes.set_ylabel(_label(what, results["tasks"][what]), fontsize=7)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    legend = {label: h for axes in grid for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(legend.values(), legend.keys(), loc="outside right upper", fontsize=7, frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=130)
    return True


def _styles(results: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each model."""
    styles: dict[str, tuple[str, str]] = {}
    for palette, is_model in ((_COLOURS, True), (_CONTROLS, False)):
        chosen = [model["name"] for model in results["models"] if (model["role"] == "model") == is_model]
        styles |= {n: (palette[i % len(palette)], _MARKERS[i % len(_MARKERS)]) for i, n in enumerate(chosen)}
    return styles


def _draw_dot(axes: Axes, x: Mapping[str, Any], y: Mapping[str, Any], name: str, colour: str, marker: str) -> None:
    places, spans = [], []
    for metric in (x, y):
        scale = 100 if metric["percent"] else 1
        value, low, high = (metric[key] * scale for key in ("value", "low", "high"))
        places.append(value)
        spans.append([[max(0.0, value - low)], [max(0.0, high - value)]])
    right, up = places
    axes.errorbar(
        right, up, xerr=spans[0], yerr=spans[1], fmt=marker, color=colour, label=name, markersize=5, elinewidth=0.8
    )


def _label(name: str, task: Mapping[str, Any]) -> str:
    return f"{name}: {title_of(measured_headline(task)[0], task)}"

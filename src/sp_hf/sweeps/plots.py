"""A collected sweep in pictures: every run's metrics with a dot a seed, and an ablation's metrics by its option."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from .metrics import Metrics
from .plan import Plan
from .tables import chance_of, scale_of

_TEXT, _GRID = "#333333", "#dddddd"
_CONTROL, _REFERENCE, _RUN = "#8a8a8a", "#17809c", "#e4572e"
_ACROSS = 3  # panels side by side
_LEAST_SPAN = 0.1  # of the axis of a panel of pairs


def draw_values(path: Path, plan: Plan, metrics: Metrics) -> None:
    """A panel a metric, a row a run: the mean as a bar's end, a dot a seed; a dashed line at chance."""
    keys = [key for key in plan.measures if metrics.facts(key)]
    names = [name for name in [*metrics.controls, *plan.runs] if metrics.seeds(name)]
    canvas, panels = _panels(len(keys), height=0.7 + 0.26 * len(names), share_rows=True)
    for axes, key in zip(panels, keys, strict=False):
        scale, _ = scale_of(metrics.facts(key) or {})
        for row, name in enumerate(names):
            spread = metrics.spread(name, key)
            if spread is None:
                continue
            colour = _CONTROL if name in metrics.controls else _RUN if name in metrics.references else _REFERENCE
            axes.barh(row, spread.mean * scale, height=0.62, color=colour, alpha=0.35, linewidth=0)
            axes.plot([v * scale for v in spread.values], [row] * len(spread.values), "o", ms=4, color=colour)
        _chance_line(axes, metrics, key, vertical=True)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        _style(axes, plan.measures[key] + chance_of(metrics, key), "x")
    _save(canvas, path)


def draw_pairs(path: Path, sweeps: Sequence[tuple[Plan, Metrics]], keys: Sequence[str]) -> None:
    """A row of panels a sweep, a panel a metric: every run that is compared, joined to its reference.

    Large dots are means over seeds, small ones the seeds; a dashed line is the random initialisation.
    """
    most = max(len(_compared(plan, metrics)) for plan, metrics in sweeps)
    canvas, panels = _panels(len(keys) * len(sweeps), height=0.9 + 0.36 * most, share_rows=True, across=len(keys))
    for number, axes in enumerate(panels):
        (plan, metrics), key = sweeps[number // len(keys)], keys[number % len(keys)]
        names = _compared(plan, metrics)
        scale, _ = scale_of(metrics.facts(key) or {})
        for row, name in enumerate(names):
            _draw_pair(axes, row, name, metrics, key, scale)
        for name in metrics.controls:
            spread = metrics.spread(name, key)
            if metrics.roles[name] == "random" and spread is not None:
                axes.axvline(spread.mean * scale, ls="--", lw=1, color=_CONTROL)
        axes.set_yticks(range(len(names)), [metrics.references[name] for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        _widen(axes, _LEAST_SPAN * scale)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        first = f"{plan.title}: " if number % len(keys) == 0 else ""
        _style(axes, f"{first}{plan.measures[key]}{' %' * (scale == 100)}", "x")
    handles = [
        Line2D([], [], marker="o", ls="", ms=8, color=_REFERENCE, label="without SP"),
        Line2D([], [], marker="o", ls="", ms=8, color=_RUN, label="with SP"),
        Line2D([], [], ls="--", lw=1, color=_CONTROL, label="random initialisation"),
    ]
    canvas.figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    _save(canvas, path)


def _draw_pair(axes: Axes, row: int, name: str, metrics: Metrics, key: str, scale: float) -> None:
    ends = [(metrics.references[name], _REFERENCE), (name, _RUN)]
    spreads = [(spread, colour) for run, colour in ends if (spread := metrics.spread(run, key))]
    means = [spread.mean * scale for spread, _ in spreads]
    axes.plot(means, [row] * len(spreads), "-", color=_GRID, lw=4, zorder=1)
    for (spread, colour), mean in zip(spreads, means, strict=True):
        axes.plot([v * scale for v in spread.values], [row] * len(spread.values), "o", ms=3, color=colour, alpha=0.5)
        axes.plot([mean], [row], "o", ms=8, color=colour, zorder=3)


def _widen(axes: Axes, least: float) -> None:
    """A small difference must look small."""
    low, high = axes.get_xlim()
    more = max(least - (high - low), 0) / 2
    axes.set_xlim(low - more, high + more)


def _compared(plan: Plan, metrics: Metrics) -> list[str]:
    return [name for name in plan.runs if name in metrics.references]


def draw_ablation(path: Path, ablation: dict[str, Any], plan: Plan, metrics: Metrics) -> None:
    """A panel a metric, one option of the ablation on the horizontal axis: means as a line, a dot a seed.

    A dashed line: random initialisation; dotted: the run that these are compared with.
    """
    keys = [key for key in plan.measures if metrics.facts(key)]
    levels = {str(label): str(name) for label, name in ablation["runs"].items()}
    canvas, panels = _panels(len(keys), height=2.3, share_rows=False)
    for axes, key in zip(panels, keys, strict=False):
        scale, _ = scale_of(metrics.facts(key) or {})
        spreads = [(i, spread) for i, name in enumerate(levels.values()) if (spread := metrics.spread(name, key))]
        axes.plot([i for i, _ in spreads], [s.mean * scale for _, s in spreads], "-", color=_RUN, lw=1.5)
        for i, spread in spreads:
            axes.plot([i] * len(spread.values), [v * scale for v in spread.values], "o", ms=4, color=_RUN)
        lines = [(name, "--", _CONTROL) for name in metrics.controls if metrics.roles[name] == "random"]
        references = {metrics.references.get(name) for name in levels.values()}
        lines += [(name, ":", _REFERENCE) for name in sorted(filter(None, references)) if ablation.get("line")]
        for name, style, colour in lines:
            spread = metrics.spread(name, key)
            if spread is not None:
                axes.axhline(spread.mean * scale, ls=style, lw=1, color=colour)
        axes.set_xticks(range(len(levels)), list(levels))
        axes.set_xlim(-0.4, len(levels) - 0.6)
        _style(axes, plan.measures[key] + chance_of(metrics, key), "y")
    canvas.figure.suptitle(ablation["title"], fontsize=11, color=_TEXT, x=0.01, ha="left")
    _save(canvas, path)


def _panels(
    count: int, height: float, share_rows: bool, across: int = _ACROSS
) -> tuple[FigureCanvasAgg, Sequence[Axes]]:
    columns = min(count, across)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(3.4 * columns + (1.2 if share_rows else 0), height * rows), layout="constrained", dpi=110)
    grid = figure.subplots(rows, columns, squeeze=False, sharey="row" if share_rows else False)
    panels = list(grid.flat)
    for axes in panels[count:]:
        axes.remove()
    return FigureCanvasAgg(figure), panels[:count]


def _chance_line(axes: Axes, metrics: Metrics, key: str, *, vertical: bool) -> None:
    facts = metrics.facts(key) or {}
    if facts.get("chance"):
        draw = axes.axvline if vertical else axes.axhline
        draw(facts["chance"] * scale_of(facts)[0], ls="--", lw=1, color=_CONTROL)


def _style(axes: Axes, title: str, grid: Literal["both", "x", "y"]) -> None:
    axes.set_title(title, fontsize=9, color=_TEXT, loc="left")
    axes.tick_params(labelsize=8, colors=_TEXT, length=0)
    axes.grid(axis=grid, color=_GRID, lw=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def _save(canvas: FigureCanvasAgg, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.figure.savefig(path, metadata={"Software": None})

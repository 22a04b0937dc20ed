"""Metrics of ``results.json`` as text: values with intervals, titles, and which ones head a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def show(metric: Mapping[str, Any], *, interval: bool = True, signed: bool = False, percent: bool | None = None) -> str:
    """``48.1 [45.3, 50.9]`` where it is shown in per cent, else ``0.109 [0.089, 0.128]``."""
    in_percent = metric.get("percent", False) if percent is None else percent
    scale, digits = (100, 1) if in_percent else (1, 3)
    value, low, high = (round(metric[key] * scale, digits) + 0.0 for key in ("value", "low", "high"))  # no -0.000
    sign = "+" if signed else ""
    text = f"{value:{sign}.{digits}f}"
    return f"{text} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]" if interval else text


def measured_headline(task: Mapping[str, Any]) -> list[str]:
    """The headline's metrics that any model has."""
    return [key for key in task["headline"] if any(key in r["measures"] for r in task["results"].values())]


def title_of(key: str, task: Mapping[str, Any]) -> str:
    metric = next(r["measures"][key] for r in task["results"].values() if key in r["measures"])
    title = key.replace("_", " ") + (" %" if metric["percent"] else "")
    if metric["chance"] is not None and metric["chance"] != 0:
        title += f" (chance {metric['chance'] * (100 if metric['percent'] else 1):.{1 if metric['percent'] else 3}f})"
    return title if metric["higher_is_better"] else f"{title} (less is better)"

"""Figures of ``results.json`` as text: values with intervals, titles, and which ones head a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def show(figure: Mapping[str, Any], *, interval: bool = True, signed: bool = False, percent: bool | None = None) -> str:
    """``48.1 [45.3, 50.9]`` where it is shown in per cent, else ``0.109 [0.089, 0.128]``."""
    in_percent = figure.get("percent", False) if percent is None else percent
    scale, digits = (100, 1) if in_percent else (1, 3)
    value, low, high = (figure[key] * scale for key in ("value", "low", "high"))
    sign = "+" if signed else ""
    text = f"{value:{sign}.{digits}f}"
    return f"{text} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]" if interval else text


def measured_headline(task: Mapping[str, Any]) -> list[str]:
    """The headline's figures that any model has."""
    return [key for key in task["headline"] if any(key in r["measures"] for r in task["results"].values())]


def title_of(key: str, task: Mapping[str, Any]) -> str:
    figure = next(r["measures"][key] for r in task["results"].values() if key in r["measures"])
    title = key.replace("_", " ") + (" %" if figure["percent"] else "")
    if figure["chance"] is not None and figure["chance"] != 0:
        title += f" (chance {figure['chance'] * (100 if figure['percent'] else 1):.{1 if figure['percent'] else 3}f})"
    return title if figure["higher_is_better"] else f"{title} (less is better)"

"""A sweep's report in Markdown, all of it made from the collected JSON and the sweep's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..whole_file import write_whole
from .answer import answer
from .metrics import Metrics
from .plan import Plan, slug
from .plots import draw_ablation, draw_values
from .tables import cost_table, differences_table, expectations_table, metrics_table


def write_report(path: Path, plan: Plan, collected: Mapping[str, Any]) -> None:
    """``path`` and, beside it, its pictures."""
    text = "\n".join([f"# {plan.title}", "", *section(plan, collected, path.parent, "")]) + "\n"
    write_whole(path, text)


def section(plan: Plan, collected: Mapping[str, Any], folder: Path, prefix: str, *, summary: bool = True) -> list[str]:
    """The lines of a sweep, without its title.

    Args:
        plan: the sweep.
        collected: what was collected of it.
        folder: for the pictures.
        prefix: of the pictures' paths, from ``folder``, where the text is.
        summary: with the answer in words.
    """
    metrics = Metrics(collected)
    lines = _paragraph(plan.introduction)
    if summary:
        lines += _with_gap(answer(plan, metrics))
    picture = f"{prefix}{plan.name}.png"
    draw_values(folder / picture, plan, metrics)
    lines += [f"![{plan.title}: every run's metrics, a dot a seed]({picture})", ""]
    lines += ["Mean ± standard deviation over seeds:", "", *metrics_table(plan, metrics), ""]
    differences = differences_table(plan, metrics)
    if differences:
        lines += ["Differences, paired by seed and image, with 95 % intervals (bold: clear of zero):", ""]
        lines += [*differences, ""]
    lines += _with_gap(expectations_table(plan, metrics), "As expected?")
    for ablation in plan.plots:
        if any(metrics.seeds(str(name)) for name in ablation["runs"].values()):
            picture = f"{prefix}{plan.name}_{slug(ablation['title'])}.png"
            draw_ablation(folder / picture, ablation, plan, metrics)
            lines += [f"![{ablation['title']}]({picture})", ""]
            lines += _paragraph(ablation.get("finding", ""))
    lines += _paragraph(plan.findings)
    lines += ["Cost of one seed:", "", *cost_table(collected["runs"]), ""]
    lines += _measured_on(collected)
    return lines


def _paragraph(text: str) -> list[str]:
    return [text.strip(), ""] if text.strip() else []


def _with_gap(lines: list[str], title: str = "") -> list[str]:
    return [*([title, ""] if title else []), *lines, ""] if lines else []


def _measured_on(collected: Mapping[str, Any]) -> list[str]:
    if not collected["evaluations"]:
        return []
    first = collected["evaluations"][0]
    train, validation = first["data"]["train"], first["data"]["validation"]
    return [
        f"Measured on {validation['description']} ({validation['images']} images); probes fitted on"
        f" {train['description']} ({train['images']} images). One of the commands:",
        "",
        f"    {first['command']}",
        "",
    ]

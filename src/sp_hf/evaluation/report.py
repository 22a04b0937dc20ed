"""The report of an evaluation: a table in the terminal, ``results.json``, ``report.md``, ``.tex``, ``.csv``, pictures.

Tables call models by short names (:mod:`sp_hf.evaluation.short_names`), which a list below them explains.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..markdown import table
from ..whole_file import write_whole
from .metric_text import measured_headline, show, title_of
from .report_csv import csv_text
from .report_latex import latex
from .short_names import names_in_tables
from .what_where import draw_what_where

PICTURE = "what_against_where.png"


def terminal_table(results: Mapping[str, Any]) -> str:
    """One block a task, what and where: a row a model, the headline metrics with their 95 % intervals."""
    lines: list[str] = []
    names = names_in_tables(results)
    for kind in ("where", "what"):
        for name, task in results["tasks"].items():
            if task["kind"] == kind:
                lines += ["", *_task_table(name, task, names)]
    train, validation = (results["data"][side] for side in ("train", "validation"))
    lines += [
        "",
        f"Measured on {validation['description']} ({validation['images']} images); probes fitted on"
        f" {train['description']} ({train['images']} images); seed {results['seed']}. {intervals_in_words(results)}",
        *other_data(results),
        *resolutions(results),
        *(f"Note: {note}." for note in results.get("notes", [])),
        *(f"{short} is {name}" for name, short in names.items() if short != name),
    ]
    return "\n".join(lines[1:])


def intervals_in_words(results: Mapping[str, Any]) -> str:
    """A sentence on the intervals in brackets, and on which of them cover the choice of training images, too."""
    refitted = [
        name
        for name, task in results["tasks"].items()
        if any(metric.get("refits") for r in task["results"].values() for metric in r["measures"].values())
    ]
    covered = f"; those of {', '.join(refitted)} also cover the choice of training images" if refitted else ""
    return f"Brackets: 95 % intervals over images (Wilson's of proportions, else by the bootstrap){covered}."


def _why_left_out(task: Mapping[str, Any]) -> list[str]:
    """Of a task without a result."""
    return [task["left_out"]] if task.get("left_out") else list(dict.fromkeys(task["skipped"].values()))


def _task_table(name: str, task: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    columns = measured_headline(task)
    if not task["results"]:
        title = f"{name} ({task['kind']})"
        return [title, "-" * len(title), *(f"left out: {reason}" for reason in _why_left_out(task))]
    rows = [[f"{name} ({task['kind']})", *(title_of(key, task) for key in columns)]]
    for model, result in task["results"].items():
        rows.append([names[model], *(_cell(result["measures"].get(key)) for key in columns)])
    rows += [[names[model], f"- ({reason})"] for model, reason in task["skipped"].items()]
    widths = [max(len(row[i]) for row in rows if len(row) > i) for i in range(len(rows[0]))]
    if task["skipped"]:  # a long reason must not push the other columns apart
        widths[1:2] = [max(len(row[1]) for row in rows[: 1 + len(task["results"])])]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def other_data(results: Mapping[str, Any]) -> list[str]:
    """A sentence for every task that was measured on images other than the run's."""
    lines = []
    own = {side: results["data"][side]["description"] for side in ("train", "validation")}
    for name, task in results["tasks"].items():
        named = [result["details"].get("data") for result in task["results"].values() if result["details"].get("data")]
        if named and named[0] != own:
            lines.append(f"{name}: measured on {named[0]['validation']}; fitted on {named[0]['train']}.")
    return lines


def resolutions(results: Mapping[str, Any]) -> list[str]:
    """A sentence for every task on the resolution at which it measured, by models where theirs differ."""
    lines, names = [], names_in_tables(results)
    for name, task in results["tasks"].items():
        models_by_size: dict[str, list[str]] = {}
        for model, result in task["results"].items():
            if "measured_at" in result["details"]:
                models_by_size.setdefault(result["details"]["measured_at"], []).append(names[model])
        for text, models in models_by_size.items():
            lines.append(f"{name}: {text}" + (f" ({', '.join(models)})" if len(models_by_size) > 1 else "") + ".")
    return lines


def _cell(metric: Mapping[str, Any] | None) -> str:
    return "-" if metric is None else show(metric)


def write_report(results: Mapping[str, Any], folder: str | Path) -> None:
    """``results.json``, ``report.md``, ``report.tex`` and ``report.csv``, each whole or as it was, and the picture."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results.json", json.dumps(results, indent=2, default=str) + "\n")
    write_whole(folder / "report.tex", latex(results))
    write_whole(folder / "report.csv", csv_text(results))
    picture = PICTURE if draw_what_where(folder / PICTURE, results) else None
    write_whole(folder / "report.md", markdown(results, picture))


def markdown(results: Mapping[str, Any], picture: str | None = None) -> str:
    """The report: an overview, then for each task all metrics, differences and pictures.

    Args:
        results: what ``results.json`` holds.
        picture: name of the file of what against where, if there is one.
    """
    names = names_in_tables(results)
    train, validation = (results["data"][side] for side in ("train", "validation"))
    lines = [
        "# Evaluation: what and where",
        "",
        f"- Models: {', '.join(model['name'] for model in results['models'] if model['role'] == 'model')}",
        f"- Measured on {validation['description']}: {validation['images']} images",
        f"- Probes fitted on {train['description']}: {train['images']} images",
        f"- Seed {results['seed']}. {intervals_in_words(results)} Differences are paired.",
        f"- Command: `{results['command']}`" if results["command"] else "",
        *(f"- {line}" for line in other_data(results)),
        *(f"- {line}" for line in resolutions(results)),
        *(f"- {line}" for line in balance(results)),
        *(f"- **Note:** {note}" for note in results.get("notes", [])),
        "- Protocols: docs/evaluation.md of sp_hf",
        "",
        *_overview(results, names),
    ]
    if picture is not None:
        caption = "What against where: the first metric of each task, with 95 % intervals"
        lines += ["", f"![{caption}]({picture})", "", f"*{caption}*"]
    for kind in ("where", "what"):
        for name, task in results["tasks"].items():
            if task["kind"] == kind:
                lines += ["", f"## {name} ({kind})", "", *_full_table(task, results["reference"], names)]
                for drawn in task["pictures"]:
                    lines += ["", f"![{drawn['caption']}]({drawn['path']})", "", f"*{drawn['caption']}*"]
    keys = ("name", "role", "architecture", "size", "identity")
    models = [[names[m["name"]], *(str(m[key]) for key in keys)] for m in results["models"]]
    lines += ["", "## Models", "", *table([("in tables", "name", "role", "architecture", "px", "weights"), *models])]
    versions = ", ".join(f"{name} {version}" for name, version in results["environment"].items())
    lines += ["", f"sp_hf {results['sp_hf_version']}, {versions}; {results['created']}."]
    return "\n".join(line for line in lines) + "\n"


def balance(results: Mapping[str, Any]) -> list[str]:
    """Sentences on the classes of both sides and on what guessing gets."""
    lines = []
    for name, side in (("Training", results["data"]["train"]), ("Validation", results["data"]["validation"])):
        if side.get("classes"):
            count, rarest, commonest = (side["classes"][key] for key in ("count", "rarest", "commonest"))
            sizes = f"{rarest} to {commonest} images each"
            lines.append(f"{name} side: {side['labelled']} labelled images of {count} classes, {sizes}")
    majority = results["data"]["validation"].get("majority_accuracy")
    if majority is not None:
        lines.append(f"Always answering the commonest training class is right in {100 * majority:.1f} %")
    return lines


def _overview(results: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """One row a model, the first headline metric of every task."""
    tasks = sorted(results["tasks"].items(), key=lambda item: item[1]["kind"] == "what")
    tasks = [(name, task, measured_headline(task)[0]) for name, task in tasks if measured_headline(task)]
    if not tasks:
        return []
    rows = [["", *(f"{name}: {title_of(key, task)}" for name, task, key in tasks)]]
    for model in results["models"]:
        cells = []
        for _, task, key in tasks:
            metric = task["results"].get(model["name"], {}).get("measures", {}).get(key)
            cells.append("" if metric is None else show(metric, interval=False))
        rows.append([names[model["name"]], *cells])
    return table(rows)


def _is_shared(task: Mapping[str, Any], key: str) -> bool:
    """Whether several models have this metric, and all the same: one of the images, as those of low-level cues are."""
    metrics = [result["measures"].get(key) for result in task["results"].values()]
    return len(metrics) > 1 and all(metric is not None and metric == metrics[0] for metric in metrics)


def _full_table(task: Mapping[str, Any], reference: str, names: Mapping[str, str]) -> list[str]:
    if not task["results"]:
        return [f"Left out: {reason}" for reason in _why_left_out(task)]
    keys = dict.fromkeys(key for result in task["results"].values() for key in result["measures"])
    models = list(task["results"])
    shared = [key for key in keys if _is_shared(task, key)]
    rows = [["", *(names[model] for model in models), "n"]]
    for key in (key for key in keys if key not in shared):
        metrics = [task["results"][model]["measures"].get(key) for model in models]
        n = next(metric["n"] for metric in metrics if metric is not None)
        rows.append([title_of(key, task), *map(_cell, metrics), str(n)])
    lines = table(rows) if len(rows) > 1 else []
    if shared:
        own = task["results"][models[0]]["measures"]
        rows = [["", "all models", "n"], *([title_of(k, task), show(own[k]), str(own[k]["n"])] for k in shared)]
        lines += ["", "The same for all models:", "", *table(rows)]
    compared = [model for model in task["differences"] if task["differences"][model]]
    if compared:
        rows = [["", *(names[model] for model in compared)]]
        for key in (key for key in keys if key not in shared):
            row = []
            for model in compared:
                difference = task["differences"][model].get(key)
                percent = task["results"][model]["measures"].get(key, {}).get("percent", False)
                row.append("" if difference is None else show(difference, signed=True, percent=percent))
            rows.append([key.replace("_", " "), *row])
        if len(rows) > 1:
            lines += ["", f"Minus {names[reference]}, paired:", "", *table(rows)]
    lines += [f"\n{names[model]}: left out ({reason})" for model, reason in task["skipped"].items()]
    return lines

"""What an evaluation writes: a table in the terminal, ``results.json``, ``report.md`` and its pictures.

``results.json``, version 1 (``schema_version``; fields are only ever added within a version)::

    schema_version, sp_hf_version, created (UTC, ISO 8601), command, seed, environment {package: version}
    options     what decides the figures, resolved: {tasks: {task: settings}, data, seed, size}
    data        {train: {description, images}, validation: {description, images}}
    models      [{name, role: model | random | pixels | cues, architecture, identity, size, source, weights}]
    tasks       {task: {kind: what | where, settings, headline: [measure],
                        results: {model: {measures: {measure: {value, low, high, n, percent, higher_is_better, chance}},
                                          details, seconds}},
                        skipped: {model: reason},
                        differences: {model: {measure: {value, low, high}}},   model - reference, paired over images
                        pictures: [{path, caption}]}}
    reference   name of the model that differences are taken from

``value`` is a fraction also where ``percent`` says that it is shown times 100; ``low`` and ``high`` bound the 95 %
interval; ``n`` is the number of images. ``weights`` is the SHA-256 of a folder's safetensors, else ``null``.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..markdown import table
from ..whole_file import write_whole
from .data import EvaluationData
from .measure import Measure, paired_difference
from .model import EvaluatedModel
from .suite import TaskReport

SCHEMA_VERSION = 1
PACKAGES = ("torch", "transformers", "datasets", "numpy", "pillow")


def results_dict(
    reports: Sequence[TaskReport],
    models: Sequence[EvaluatedModel],
    data: EvaluationData,
    command: str = "",
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything that ``results.json`` holds (see the module's docstring)."""
    reference = reference_of(models)
    return {
        "schema_version": SCHEMA_VERSION,
        "sp_hf_version": importlib.metadata.version("sp-hf"),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "options": dict(options or {}),
        "seed": data.seed,
        "environment": {name: importlib.metadata.version(name) for name in PACKAGES},
        "data": {
            side: {"description": sample.images.description, "images": len(sample.rows)}
            for side, sample in (("train", data.train), ("validation", data.validation))
        },
        "models": [
            {
                "name": model.name,
                "role": model.role,
                "architecture": model.describe(),
                "identity": model.identity,
                "size": model.size,
                "source": model.source,
                "weights": model.weights,
            }
            for model in models
        ],
        "reference": reference,
        "tasks": {report.task.name: _task_dict(report, reference, data.seed) for report in reports},
    }


def reference_of(models: Sequence[EvaluatedModel]) -> str:
    """The model that others are compared with: the first one that is not a control."""
    return next(model.name for model in models if model.role == "model")


def _task_dict(report: TaskReport, reference: str, seed: int) -> dict[str, Any]:
    return {
        "kind": report.task.kind,
        "settings": report.task.settings(),
        "headline": list(report.task.headline),
        "results": {
            name: {
                "measures": {key: _measure_dict(measure, seed) for key, measure in result.measures.items()},
                "details": result.details,
                "seconds": round(report.seconds.get(name, 0.0), 2),
            }
            for name, result in report.results.items()
        },
        "skipped": report.skipped,
        "differences": _differences(report, reference, seed),
        "pictures": [{"path": picture.path.name, "caption": picture.caption} for picture in report.pictures],
    }


def _measure_dict(measure: Measure, seed: int) -> dict[str, Any]:
    estimate = measure.estimate(seed)
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": measure.n,
        "percent": measure.percent,
        "higher_is_better": measure.higher_is_better,
        "chance": measure.chance,
    }


def _differences(report: TaskReport, reference: str, seed: int) -> dict[str, Any]:
    """Every other model minus the reference, image by image."""
    against = report.results.get(reference)
    differences: dict[str, Any] = {}
    for name, result in report.results.items() if against is not None else ():
        if name == reference:
            continue
        differences[name] = {}
        for key, measure in result.measures.items():
            other = against.measures.get(key)
            if other is not None and other.n == measure.n:
                found = paired_difference(measure, other, seed)
                differences[name][key] = {"value": found.value, "low": found.low, "high": found.high}
    return differences


def show(figure: Mapping[str, Any], *, interval: bool = True, signed: bool = False, percent: bool | None = None) -> str:
    """``48.1 [45.3, 50.9]`` where it is shown in per cent, else ``0.109 [0.089, 0.128]``."""
    in_percent = figure.get("percent", False) if percent is None else percent
    scale, digits = (100, 1) if in_percent else (1, 3)
    value, low, high = (figure[key] * scale for key in ("value", "low", "high"))
    sign = "+" if signed else ""
    text = f"{value:{sign}.{digits}f}"
    return f"{text} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]" if interval else text


def terminal_table(results: Mapping[str, Any], width: int = 120) -> str:
    """One block a task, what and where: a row a model, the headline figures with their 95 % intervals."""
    lines: list[str] = []
    for kind in ("where", "what"):
        for name, task in results["tasks"].items():
            if task["kind"] == kind:
                lines += ["", *_task_table(name, task)]
    train, validation = (results["data"][side] for side in ("train", "validation"))
    lines += [
        "",
        f"Measured on {validation['description']} ({validation['images']} images); probes fitted on"
        f" {train['description']} ({train['images']} images); seed {results['seed']};"
        " brackets: 95 % intervals over images.",
        *other_data(results),
    ]
    return "\n".join(lines[1:])


def _task_table(name: str, task: Mapping[str, Any]) -> list[str]:
    columns = [key for key in task["headline"] if any(key in r["measures"] for r in task["results"].values())]
    rows = [[f"{name} ({task['kind']})", *(title_of(key, task) for key in columns)]]
    for model, result in task["results"].items():
        rows.append([model, *(_cell(result["measures"].get(key)) for key in columns)])
    rows += [[model, f"- ({reason})"] for model, reason in task["skipped"].items()]
    widths = [max(len(row[i]) for row in rows if len(row) > i) for i in range(len(rows[0]))]
    if task["skipped"]:  # a long reason must not push the other columns apart
        widths[1:2] = [max(len(row[1]) for row in rows[: 1 + len(task["results"])])]
    made = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    return [made[0], "-" * len(made[0]), *made[1:]]


def other_data(results: Mapping[str, Any]) -> list[str]:
    """A sentence for every task that was measured on images other than the run's."""
    lines = []
    own = {side: sample["description"] for side, sample in results["data"].items()}
    for name, task in results["tasks"].items():
        named = [result["details"].get("data") for result in task["results"].values() if result["details"].get("data")]
        if named and named[0] != own:
            lines.append(f"{name}: measured on {named[0]['validation']}; fitted on {named[0]['train']}.")
    return lines


def title_of(key: str, task: Mapping[str, Any]) -> str:
    figure = next(r["measures"][key] for r in task["results"].values() if key in r["measures"])
    title = key.replace("_", " ") + (" %" if figure["percent"] else "")
    if figure["chance"] is not None and figure["chance"] != 0:
        title += f" (chance {figure['chance'] * (100 if figure['percent'] else 1):.{1 if figure['percent'] else 3}f})"
    return title if figure["higher_is_better"] else f"{title} (less is better)"


def _cell(figure: Mapping[str, Any] | None) -> str:
    return "-" if figure is None else show(figure)


def write_report(results: Mapping[str, Any], folder: str | Path) -> None:
    """``results.json`` and ``report.md``, each whole or as it was."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results.json", json.dumps(results, indent=2, default=str) + "\n")
    write_whole(folder / "report.md", markdown(results))


def markdown(results: Mapping[str, Any]) -> str:
    """The report: an overview, then for each task all figures, differences and pictures."""
    train, validation = (results["data"][side] for side in ("train", "validation"))
    lines = [
        "# Evaluation: what and where",
        "",
        f"- Models: {', '.join(model['name'] for model in results['models'] if model['role'] == 'model')}",
        f"- Measured on {validation['description']}: {validation['images']} images",
        f"- Probes fitted on {train['description']}: {train['images']} images",
        f"- Seed {results['seed']}. Brackets are 95 % intervals (bootstrap over images); differences are paired.",
        f"- Command: `{results['command']}`" if results["command"] else "",
        *(f"- {line}" for line in other_data(results)),
        "- Protocols: docs/evaluation.md of sp_hf",
        "",
        *_overview(results),
    ]
    for kind in ("where", "what"):
        for name, task in results["tasks"].items():
            if task["kind"] == kind:
                lines += ["", f"## {name} ({kind})", "", *_full_table(task, results["reference"])]
                for picture in task["pictures"]:
                    lines += ["", f"![{picture['caption']}]({picture['path']})", "", f"*{picture['caption']}*"]
    models = [[str(m[key]) for key in ("name", "role", "architecture", "size", "identity")] for m in results["models"]]
    lines += ["", "## Models", "", *table([("name", "role", "architecture", "px", "weights"), *models])]
    versions = ", ".join(f"{name} {version}" for name, version in results["environment"].items())
    lines += ["", f"sp_hf {results['sp_hf_version']}, {versions}; {results['created']}."]
    return "\n".join(line for line in lines) + "\n"


def _overview(results: Mapping[str, Any]) -> list[str]:
    """One row a model, the first headline figure of every task."""
    tasks = sorted(results["tasks"].items(), key=lambda item: item[1]["kind"] == "what")
    tasks = [(name, task, next((k for k in task["headline"]), None)) for name, task in tasks if task["results"]]
    if not tasks:
        return []
    rows = [["", *(f"{name}: {title_of(key, task)}" for name, task, key in tasks)]]
    for model in results["models"]:
        cells = []
        for _, task, key in tasks:
            figure = task["results"].get(model["name"], {}).get("measures", {}).get(key)
            cells.append("" if figure is None else show(figure, interval=False))
        rows.append([model["name"], *cells])
    return table(rows)


def _full_table(task: Mapping[str, Any], reference: str) -> list[str]:
    names = dict.fromkeys(key for result in task["results"].values() for key in result["measures"])
    models = list(task["results"])
    rows = [["", *models, "n"]]
    for key in names:
        figures = [task["results"][model]["measures"].get(key) for model in models]
        n = next(figure["n"] for figure in figures if figure is not None)
        rows.append([title_of(key, task), *map(_cell, figures), str(n)])
    lines = table(rows)
    compared = [model for model in task["differences"] if task["differences"][model]]
    if compared:
        rows = [["", *compared]]
        for key in names:
            row = []
            for model in compared:
                found = task["differences"][model].get(key)
                percent = task["results"][model]["measures"].get(key, {}).get("percent", False)
                row.append("" if found is None else show(found, signed=True, percent=percent))
            rows.append([key.replace("_", " "), *row])
        lines += ["", f"Minus {reference}, paired:", "", *table(rows)]
    lines += [f"\n{model}: left out ({reason})" for model, reason in task["skipped"].items()]
    return lines

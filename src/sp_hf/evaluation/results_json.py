"""The results of an evaluation as JSON.

``results.json``, version 1 (``schema_version``; fields are only ever added within a version)::

    schema_version, sp_hf_version, created (UTC, ISO 8601), command, seed, environment {package: version}
    options     what decides the metrics, resolved: {tasks: {task: settings}, data, seed, size}
    data        {train: {description, images, labelled, classes: {count, rarest, commonest} (images; with labels)},
                 validation: {as train, duplicates (images that train has, too), majority_accuracy (with labels)}}
    notes       [sentences on what may mislead]
    models      [{name, role: model | random | pixels | cues, architecture, identity, size, source, weights}]
    tasks       {task: {kind: what | where, version (of its protocol), hub_task (the Hub's word), settings,
                        headline: [measure],
                        results: {model: {measures: {measure: {value, low, high, n, percent, higher_is_better, chance,
                                                               interval: wilson | bootstrap, refits, warning | null}},
                                          details, seconds}},
                        skipped: {model: reason}, left_out: reason | null (then no model has a result),
                        differences: {model: {measure: {value, low, high}}},   model - reference, paired over images
                        pictures: [{path, caption}]}}
    reference   name of the model that differences are taken from

``value`` is a fraction also where ``percent`` says that it is shown times 100; ``low`` and ``high`` bound the 95 %
interval; ``n`` is the number of images. ``weights`` is the SHA-256 of a folder's safetensors, else ``null``.
"""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

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
    reference, sides = reference_of(models), data.two_sides
    return {
        "schema_version": SCHEMA_VERSION,
        "sp_hf_version": importlib.metadata.version("sp-hf"),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "options": dict(options or {}),
        "seed": data.seed,
        "environment": {name: importlib.metadata.version(name) for name in PACKAGES},
        "data": {"train": sides.train, "validation": sides.validation},
        "notes": [*sides.notes, *(note for report in reports for note in _notes(report))],
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
        "version": report.task.version,
        "hub_task": report.task.hub_task,
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
        "left_out": report.left_out,
        "differences": _differences(report, reference, seed),
        "pictures": [{"path": picture.path.name, "caption": picture.caption} for picture in report.pictures],
    }


def _notes(report: TaskReport) -> list[str]:
    """What results say may mislead, with the models that it is about where they differ."""
    notes: dict[str, list[str]] = {}
    for model, result in report.results.items():
        warnings = [f"{key}: {measure.warning}" for key, measure in result.measures.items() if measure.warning]
        for note in (*result.details.get("notes", ()), *warnings):
            notes.setdefault(f"{report.task.name}: {note}", []).append(model)
    everyone = len(report.results)
    return [note if len(models) == everyone else f"{note} ({', '.join(models)})" for note, models in notes.items()]


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
        "interval": measure.interval,
        "refits": len(measure.refits),
        "warning": measure.warning,
    }


def _differences(report: TaskReport, reference: str, seed: int) -> dict[str, Any]:
    """Every other model minus the reference, image by image."""
    against = report.results.get(reference)
    differences: dict[str, Any] = {}
    if against is None:
        return differences
    for name, result in report.results.items():
        if name == reference:
            continue
        differences[name] = {}
        for key, measure in result.measures.items():
            other = against.measures.get(key)
            if other is not None and other.n == measure.n:
                difference = paired_difference(measure, other, seed)
                differences[name][key] = {"value": difference.value, "low": difference.low, "high": difference.high}
    return differences

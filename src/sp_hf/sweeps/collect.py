"""One JSON file of a whole sweep: what was run, at what cost, and every metric that was measured.

Version 1 (``schema_version``; fields are only ever added within a version)::

    schema_version, sp_hf_version, created (UTC, ISO 8601), sweep, title, seeds
    measures      {task/metric: column title}
    runs          {run: {options: the recipe's as resolved by the run,
                         seeds: {seed: {steps, images, seconds, cpu_seconds, environment, last: last logged metrics}}}}
    evaluations   [{seed, command, models: [{name, role, architecture, identity}], reference,
                    data: as in the evaluation's results.json,
                    tasks: {task: {kind, settings,
                                   results: {model: {metric: {value, low, high, n, percent, higher_is_better, chance}}},
                                   differences: {model: {metric: {value, low, high}}}}}}]

``seconds`` is the time from start to end of the process (of all its processes, where it was interrupted), start-up
included; ``cpu_seconds`` what its threads used. Of local files only the names are kept, never their folders.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from ..run.folder import RunFolder
from ..run.record import RunRecord
from .jobs import Layout, plan_jobs
from .plan import Plan

SCHEMA_VERSION = 1
_PATHS = ("dataset", "validation_dataset", "encoder", "output_dir")


def collect(plan: Plan, layout: Layout, options: dict[str, Any]) -> dict[str, Any]:
    """Everything that is done so far; see the module's docstring.

    Args:
        plan, layout, options: as for :func:`~sp_hf.sweeps.jobs.plan_jobs`.
    """
    done = [job for job in plan_jobs(plan, layout, options) if not job.is_training and job.done]
    return {
        "schema_version": SCHEMA_VERSION,
        "sp_hf_version": importlib.metadata.version("sp-hf"),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "sweep": plan.name,
        "title": plan.title,
        "seeds": list(plan.seeds),
        "measures": plan.measures,
        "runs": {name: _run(name, plan, layout) for name in plan.runs},
        "evaluations": [_evaluation(job.folder) for job in done],
    }


def _run(name: str, plan: Plan, layout: Layout) -> dict[str, Any]:
    collected: dict[str, Any] = {"options": {}, "seeds": {}}
    for seed in plan.seeds:
        folder = layout.run(name, seed)
        if not RunFolder(folder).finished:
            continue
        record = RunRecord.read(folder)
        options = {k: v for k, v in record.recipe.items() if k not in ("seed", "output_dir")}
        collected["options"] = {k: _file_name(v) if k in _PATHS else v for k, v in options.items()}
        last = next((line for line in reversed(record.metrics) if "loss" in line), record.metrics[-1])
        batch = record.recipe.get("per_device_train_batch_size", 64) * record.recipe.get(
            "gradient_accumulation_steps", 1
        )
        steps = record.metrics[-1]["step"]
        collected["seeds"][str(seed)] = {
            "steps": steps,
            "images": steps * batch * record.environment.get("processes", 1),
            **_cost(folder),
            "environment": {key: record.environment[key] for key in ("python", "packages", "devices", "threads")},
            "last": {key: value for key, value in last.items() if isinstance(value, (int, float))},
        }
    return collected


def _cost(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in Path(f"{folder}.cost.jsonl").read_text().splitlines()]
    return {key: round(sum(line[key] for line in lines), 1) for key in ("seconds", "cpu_seconds")}


def _evaluation(folder: Path) -> dict[str, Any]:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    tasks = {
        name: {
            "kind": task["kind"],
            "settings": task["settings"],
            "results": {model: result["measures"] for model, result in task["results"].items()},
            "differences": task["differences"],
        }
        for name, task in results["tasks"].items()
    }
    keys = ("name", "role", "architecture", "identity")
    return {
        "seed": results["seed"],
        "command": " ".join(_file_name(word) for word in results["command"].split(" ")),
        "models": [{key: model[key] for key in keys} for model in results["models"]],
        "reference": results["reference"],
        "data": {
            side: {**of_side, "description": " ".join(map(_file_name, of_side["description"].split(" ")))}
            for side, of_side in results["data"].items()
        },
        "tasks": tasks,
    }


def _file_name(value: Any) -> Any:
    """An absolute path without its folders; anything else as it is."""
    if not isinstance(value, str):
        return value
    name, equals, place = value.rpartition("=")
    if not Path(place.strip("'\",")).is_absolute():
        return value
    return name + equals + Path(place).name

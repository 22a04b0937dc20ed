"""where-bench: which results of the where-tasks may stand side by side on one leaderboard.

They are measured by these tasks at their default options, on the same scenes (PartScenes, which every installation
draws alike), with the same seed::

    sp-hf evaluate MODEL --dataset part-scenes --max_images 1000 --tasks relative-geometry jigsaw ...

Tasks carry a version, which is raised whenever a protocol changes what is measured: results of another version are of
another task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..data.datasets import EMBEDDED
from .task import Task
from .tasks import TASKS

NAME = "where-bench"
BENCH_TASKS = ("relative-geometry", "jigsaw", "patch-position", "spatial-relation", "correspondence")
IMAGES = 1000  # of each side
SEED = 0


def task_id(task: type[Task]) -> str:
    """What the leaderboard calls a task: its name and the version of its protocol, such as ``jigsaw-v1``."""
    return f"{task.name}-v{task.version}"


def bench_tasks() -> dict[str, type[Task]]:
    """The tasks of the benchmark, by :func:`task_id`."""
    return {task_id(TASKS[name]): TASKS[name] for name in BENCH_TASKS}


def bench_command(model: str) -> str:
    """How a model is measured."""
    return f"sp-hf evaluate {model} --dataset {EMBEDDED} --max_images {IMAGES} --tasks {' '.join(BENCH_TASKS)}"


def deviations(results: Mapping[str, Any], name: str) -> list[str]:
    """In what a task of a ``results.json`` was measured otherwise than where-bench does; empty: it is where-bench's.

    Args:
        results: what the file holds.
        name: of the task.
    """
    if name not in BENCH_TASKS:
        return [f"{name} is none of its tasks ({', '.join(BENCH_TASKS)})"]
    options, task = results.get("options") or {}, results["tasks"][name]
    data = {key: value for key, value in (options.get("data") or {}).items() if value is not None}
    wanted = json.loads(json.dumps(TASKS[name]().settings(), default=str))
    measured = {
        "version": task.get("version", 1),
        "seed": results["seed"],
        "size": options.get("size"),
        "data": data,
        **{f"option {key}": value for key, value in task["settings"].items()},
    }
    expected = {
        "version": TASKS[name].version,
        "seed": SEED,
        "size": None,
        "data": {"dataset": EMBEDDED, "max_images": IMAGES},
        **{f"option {key}": value for key, value in wanted.items()},
    }
    measured = json.loads(json.dumps(measured, default=str))
    return [
        f"{key} is {measured.get(key)!r} in place of {value!r}"
        for key, value in expected.items()
        if measured.get(key) != value
    ]

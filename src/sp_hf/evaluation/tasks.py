"""All tasks, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError
from .task import Task
from .what.depth import Depth
from .what.fine_grained import FineGrained
from .what.finetune.task import Finetune
from .what.knn import KNN
from .what.linear import Linear
from .what.patch_pca import PatchPCA
from .what.robustness.task import Robustness
from .what.segmentation.task import Segmentation
from .what.shape_bias.task import ShapeBias
from .where.jigsaw.task import Jigsaw
from .where.relative_geometry.task import RelativeGeometry
from .where.shortcut_audit.task import ShortcutAudit

_WHERE = (RelativeGeometry, ShortcutAudit, Jigsaw)
_WHAT = (KNN, Linear, FineGrained, Finetune, Segmentation, Depth, Robustness, ShapeBias, PatchPCA)

TASKS: dict[str, type[Task]] = {task.name: task for task in (*_WHERE, *_WHAT)}
DEFAULT_TASKS = ("relative-geometry", "knn", "linear")


def options_of(task: type[Task]) -> dict[str, dataclasses.Field]:
    """The fields of a task that are flags, by the flag's name without dashes: ``<task>_<field>``."""
    prefix = task.name.replace("-", "_")
    return {f"{prefix}_{field.name}": field for field in dataclasses.fields(task) if "help" in field.metadata}


def build_tasks(names: Iterable[str], options: Mapping[str, Any] | None = None) -> list[Task]:
    """Tasks by name, ``"all"`` for every one there is.

    Args:
        names: as in :data:`TASKS`; repeated ones count once.
        options: values of flags by name; those that are ``None`` or of other tasks are ignored.

    Raises:
        ValueError: an unknown task, or an option out of its range.
    """
    wanted = list(dict.fromkeys(names))
    if "all" in wanted:
        wanted = list(TASKS)
    unknown = [name for name in wanted if name not in TASKS]
    if unknown:
        raise InputError(f"unknown task {', '.join(unknown)}; there are: {', '.join(TASKS)}, or all")
    given = {name: value for name, value in (options or {}).items() if value is not None}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    built = []
    for name in wanted:
        fields = options_of(TASKS[name])
        built.append(TASKS[name](**{field.name: given[flag] for flag, field in fields.items() if flag in given}))
    return built

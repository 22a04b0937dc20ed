"""All tasks, by name: the package's own, those registered, those of installed packages (:mod:`sp_hf.registry`)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import PluginError
from ..registry import Kind, Registry
from .flags import check_tasks, options_of
from .task import Task
from .what.depth import Depth
from .what.detection.instance_segmentation import InstanceSegmentation
from .what.detection.task import Detection
from .what.fine_grained import FineGrained
from .what.finetune.task import Finetune
from .what.knn import KNN
from .what.linear import Linear
from .what.ood_detection import OODDetection
from .what.patch_pca import PatchPCA
from .what.robustness.task import Robustness
from .what.segmentation.in_context import InContextSegmentation
from .what.segmentation.task import Segmentation
from .what.shape_bias.task import ShapeBias
from .where.correspondence.task import Correspondence
from .where.jigsaw.task import Jigsaw
from .where.layers.task import Layers
from .where.patch_position.task import PatchPosition
from .where.relative_geometry.task import RelativeGeometry
from .where.shortcut_audit.task import ShortcutAudit
from .where.spatial_relation.task import SpatialRelation

_WHERE = (RelativeGeometry, ShortcutAudit, Jigsaw, PatchPosition, SpatialRelation, Correspondence, Layers)
_WHAT = (
    KNN,
    Linear,
    FineGrained,
    Finetune,
    Segmentation,
    InContextSegmentation,
    Detection,
    InstanceSegmentation,
    Depth,
    Robustness,
    OODDetection,
    ShapeBias,
    PatchPCA,
)

DEFAULT_TASKS = ("relative-geometry", "knn", "linear")


def _check_task(name: str, kind: type[Task]) -> None:
    """Raise ``PluginError`` unless a task may have this name, and this is one."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", str(name)) or name == "all":
        raise PluginError(f"no task can be called {name!r}: give a word of a-z, 0-9 and -, such as 'my-task'.")
    if not inspect.isclass(kind) or not issubclass(kind, Task):
        raise PluginError(f"task {name!r}: {kind!r} is no subclass of sp_hf.evaluation.task.Task.")
    called = f"task {name!r} ({kind.__module__}.{kind.__qualname__})"
    if "__dataclass_fields__" not in vars(kind):
        raise PluginError(f"{called} must be a dataclass: put @dataclasses.dataclass(frozen=True) above it.")
    if getattr(kind, "name", None) != name:
        raise PluginError(f"{called} must say name = {name!r}, as reports have it.")
    if getattr(kind, "kind", None) not in ("what", "where"):
        raise PluginError(f'{called} must say kind = "what" or kind = "where".')
    if not getattr(kind, "headline", ()):
        raise PluginError(f"{called} must say headline = (...), the names of the measures that the terminal shows.")


_OWN: dict[str, type[Task]] = {task.name: task for task in (*_WHERE, *_WHAT)}

TASKS: Registry[Task] = Registry("task", "sp_hf.tasks", _OWN, _check_task)
"""All tasks by name."""


def register_task(name: str) -> Callable[[Kind], Kind]:
    """A decorator that makes an evaluation task known by a name, for this process.

    A package that is installed offers its own by an entry point of the group ``sp_hf.tasks`` instead (or besides),
    which nobody needs to import: CONTRIBUTING.md shows both.

    Args:
        name: as ``--tasks`` has it, a word of a-z, 0-9 and -; the class's own ``name`` says the same.

    Raises:
        PluginError: the name is taken or cannot be one, or the class is no task.

    Example:
        >>> import dataclasses, sp_hf
        >>> from sp_hf.evaluation.task import Task
        >>> @sp_hf.register_task("nothing")
        ... @dataclasses.dataclass(frozen=True)
        ... class Nothing(Task):
        ...     name, kind, headline = "nothing", "what", ("nothing",)
        >>> Nothing().settings()
        {}
    """
    return TASKS.register(name)


def build_tasks(names: Iterable[str], options: Mapping[str, Any] | None = None) -> list[Task]:
    """Tasks by name, ``"all"`` for every one there is.

    Args:
        names: as in :data:`TASKS`, hyphens or underscores; repeated ones count once.
        options: values of flags by name; those that are ``None`` or of other tasks are ignored.

    Raises:
        ValueError: an unknown task, or an option out of its range.
        PluginError: the task is a package's that cannot be imported.
    """
    wanted = list(dict.fromkeys(name.replace("_", "-") for name in names))
    if "all" in wanted:
        wanted = list(TASKS)
    check_tasks(wanted, TASKS)
    given = {name: value for name, value in (options or {}).items() if value is not None}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    built = []
    for name in wanted:
        fields = options_of(TASKS[name])
        built.append(TASKS[name](**{field.name: given[flag] for flag, field in fields.items() if flag in given}))
    return built

"""What decides the numbers of an evaluation, checked before anything is loaded: tasks, images, seed, size."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..data.given_images import GivenImages
from ..errors import InputTypeError
from ..flags import did_you_mean, renamed_option
from .source import DataSource
from .task import Task
from .tasks import DEFAULT_TASKS, TASKS, build_tasks, options_of

RENAMED = {
    "split": "dataset_split",
    "config": "dataset_config",
    "revision": "dataset_revision",
    "validation_split": "validation_dataset_split",
}
"""Today's names of options, by old ones; both may be given."""
EXECUTION = ("batch_size", "num_workers", "device", "cache_dir", "no_cache", "output_dir", "command")
"""Arguments of :func:`sp_hf.evaluate` that decide how it runs, and not what it finds."""
_DATA = tuple(field.name for field in dataclasses.fields(DataSource))


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """An evaluation's options, resolved.

    Args:
        tasks: with their own options.
        source: of the images.
        seed: of every random choice.
        size: side in px of whole images; ``None``: each model's own.
        leave_out: tasks that images or models do not allow are left out instead of refused.
    """

    tasks: tuple[Task, ...]
    source: DataSource
    seed: int = 0
    size: int | None = None
    leave_out: bool = False

    @classmethod
    def of(
        cls,
        tasks: str | Task | Sequence[str | Task] = DEFAULT_TASKS,
        *,
        seed: int = 0,
        size: int | None = None,
        **options: Any,
    ) -> EvaluationOptions:
        """From options by the names of the flags of ``sp-hf evaluate``.

        Args:
            tasks: names, ``"all"``, or tasks that are built already.
            seed, size: as above.
            options: fields of :class:`~sp_hf.evaluation.source.DataSource` (``max_images`` 0 is all), and options of
                tasks, ``<task>_<field>``; ``None`` is what was not given.

        Raises:
            TypeError: an unknown option, or a dataset that is none.
            ValueError: an unknown task, or an option out of its range.
        """
        given = {renamed_option(name, RENAMED): value for name, value in options.items()}
        _check_known(given)
        data = {name: _dataset(name, given[name]) for name in _DATA if given.get(name) is not None}
        if data.get("max_images") == 0:
            del data["max_images"]
        wanted = [tasks] if isinstance(tasks, (str, Task)) else list(tasks)
        names = [task for task in wanted if isinstance(task, str)]
        built: Iterable[Task] = [*build_tasks(names, given), *(task for task in wanted if isinstance(task, Task))]
        return cls(tuple(built), DataSource(**data), seed, size, "all" in names)

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it; equal for evaluations that measure the same."""
        source = {name: getattr(self.source, name) for name in _DATA}
        made = {
            "tasks": {task.name: task.settings() for task in self.tasks},
            "data": {name: str(v) if isinstance(v, GivenImages) else v for name, v in source.items()},
            "seed": self.seed,
            "size": self.size,
        }
        return json.loads(json.dumps(made, default=str))


def _dataset(name: str, value: Any) -> Any:
    return GivenImages.of(value) if name.endswith("dataset") and not isinstance(value, str) else value


def _check_known(options: Mapping[str, Any]) -> None:
    known = [*_DATA, *(flag for task in TASKS.values() for flag in options_of(task))]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known) or f"; those of a task are {'<task>_<option>'!r}"
            raise InputTypeError(f"evaluate has no option {name!r}{hint}")

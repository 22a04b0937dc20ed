"""The options that decide the numbers of an evaluation (tasks, images, seed, size), checked early."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..data.given_images import GivenImages
from ..errors import InputError, InputTypeError
from ..flags import did_you_mean, renamed_option
from .flags import RENAMED, options_of
from .probes.refits import REFITS
from .source import DataSource
from .task import Task
from .tasks import DEFAULT_TASKS, TASKS, build_tasks

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
        refits: of cheap probes, to half of the training images each.
        leave_out: tasks that images or models do not allow are left out instead of refused.
    """

    tasks: tuple[Task, ...]
    source: DataSource
    seed: int = 0
    size: int | None = None
    refits: int = REFITS
    leave_out: bool = False

    @classmethod
    def of(
        cls,
        tasks: str | Task | Sequence[str | Task] | None = None,
        *,
        seed: int = 0,
        size: int | None = None,
        refits: int = REFITS,
        **options: Any,
    ) -> EvaluationOptions:
        """From options by the names of the flags of ``sp-hf evaluate``.

        Args:
            tasks: names, ``"all"``, or tasks that are built already; ``None``: the default ones. Of the default ones
                and of all, those that images or models do not allow are left out.
            seed, size, refits: as above.
            options: fields of :class:`~sp_hf.evaluation.source.DataSource` (``max_images`` 0 is all), and options of
                tasks, ``<task>_<field>``; ``None`` is what was not given.

        Raises:
            TypeError: an unknown option, or a dataset that is none.
            ValueError: an unknown task, or an option out of its range.
        """
        if refits < 0:
            raise InputError(f"refits is {refits}; it must be at least 0 (2 or more for intervals that cover probes)")
        given = {renamed_option(name, RENAMED): value for name, value in options.items()}
        _check_known(given)
        data = {name: _dataset(name, given[name]) for name in _DATA if given.get(name) is not None}
        if data.get("max_images", 1) < 0:
            raise InputError(f"max_images is {data['max_images']}; it must be at least 1, or 0 for all")
        if data.get("max_images") == 0:
            del data["max_images"]
        wanted = [tasks] if isinstance(tasks, (str, Task)) else list(DEFAULT_TASKS if tasks is None else tasks)
        names = [task for task in wanted if isinstance(task, str)]
        built: Iterable[Task] = [*build_tasks(names, given), *(task for task in wanted if isinstance(task, Task))]
        return cls(tuple(built), DataSource(**data), seed, size, refits, tasks is None or "all" in names)

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it; equal for evaluations that measure the same."""
        source = {name: getattr(self.source, name) for name in _DATA}
        document = {
            "tasks": {task.name: task.settings() for task in self.tasks},
            "data": {name: str(v) if isinstance(v, GivenImages) else v for name, v in source.items()},
            "seed": self.seed,
            "size": self.size,
            "refits": self.refits,
        }
        return json.loads(json.dumps(document, default=str))


def _dataset(name: str, value: Any) -> Any:
    return GivenImages.of(value) if name.endswith("dataset") and not isinstance(value, str) else value


def _known(tasks: Mapping[str, type[Task]]) -> set[str]:
    return {*_DATA, *(flag for task in tasks.values() for flag in options_of(task))}


def _check_known(options: Mapping[str, Any]) -> None:
    known = _known(TASKS.loaded)
    known = known if known >= options.keys() else _known(TASKS.available())
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known) or f"; those of a task are {'<task>_<option>'!r}"
            raise InputTypeError(f"evaluate has no option {name!r}{hint}")

"""Which options of an evaluation are flags, by today's names and by old ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from .task import Task

RENAMED = {
    "split": "dataset_split",
    "config": "dataset_config",
    "revision": "dataset_revision",
    "validation_split": "validation_dataset_split",
}
"""Today's names of options, by old ones; both may be given."""


def options_of(task: type[Task]) -> dict[str, dataclasses.Field]:
    """The fields of a task that are flags, by the flag's name without dashes: ``<task>_<field>``."""
    prefix = task.name.replace("-", "_")
    return {f"{prefix}_{field.name}": field for field in dataclasses.fields(task) if "help" in field.metadata}


def check_tasks(names: Collection[str], known: Collection[str]) -> None:
    """Raise ``InputError`` unless there are all these tasks."""
    unknown = [name for name in names if name not in known]
    if unknown:
        choices = ", ".join(name for name in known if name != "all")
        raise InputError(
            f"unknown task {', '.join(unknown)}; there are: {choices}, or all. One of another package needs that"
            " installed."
        )

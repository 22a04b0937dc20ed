"""Which options of an evaluation are flags, by today's names and by old ones."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

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

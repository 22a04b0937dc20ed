"""The base of all tasks: a task measures one thing, what or where, of any frozen vision model.

A task is a dataclass in one file: its fields are its options (flags of ``sp-hf evaluate`` are made of them, named
``--<task>_<field>``), and it answers five calls, in this order::

    among(models)            once: the task itself, or one that knows whom it compares
    prepare(data)            once: open what it needs, refuse what cannot work, before any long work
    check(model, data)       once a model: refuse sizes it cannot take
    run(model, data)         once a model and control: a TaskResult
    draw(results, folder)    once: pictures of all models side by side

The data are the same for all tasks. What a task computes of them for itself, and needs again, it keeps by
:func:`once_a_task`: it is gone when the task is done.

Adding one touches its file, one line of :mod:`sp_hf.evaluation.tasks`, one test and docs/evaluation.md; one of another
package offers itself by an entry point (CONTRIBUTING.md).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, Literal, ParamSpec, TypeVar

from .measure import Measure
from .model import EvaluatedModel, Role

if TYPE_CHECKING:
    from .data import EvaluationData


class TaskSkipped(Exception):
    """Raised where a model cannot do a task, with the reason; the others go on, and the report says it."""


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The result of one model in one task.

    Args:
        measures: metrics by name.
        details: what else the report keeps, as JSON can hold it: chosen hyperparameters, metrics by class, ...
        artifacts: what pictures are drawn from; not saved.
    """

    measures: dict[str, Measure]
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    artifacts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture in the report's folder, and what it shows."""

    path: Path
    caption: str


@dataclasses.dataclass(frozen=True)
class Task:
    """Base of all tasks.

    Attributes:
        name: as ``--tasks`` has it.
        kind: what is in the image, or where.
        headline: names of the measures shown in the terminal, the first being the one that stands for the task.
        controls: which controls stand beside the models.
        version: of the protocol; raised whenever it changes what is measured, as results of another are not comparable.
        hub_task: what the Hub calls this kind of task.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["what", "where"]]
    headline: ClassVar[tuple[str, ...]]
    controls: ClassVar[tuple[Role, ...]] = ("pixels", "random")
    version: ClassVar[int] = 1
    hub_task: ClassVar[str] = "image-feature-extraction"

    def among(self, models: Sequence[EvaluatedModel]) -> Task:
        """The task for a run with these models, controls among them: another one where it compares them.

        Raises:
            ValueError: it needs a model that is not there.
        """
        return self

    def prepare(self, data: EvaluationData) -> None:
        """Open what the task needs and refuse what cannot work. Nothing long happens here.

        Raises:
            ValueError: data or options with which it cannot work; says what to change.
        """

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        """Raise ValueError if this model cannot be measured with these options, e.g. a crop smaller than a patch."""

    def canvas_sizes(self, model: EvaluatedModel, data: EvaluationData) -> Collection[int]:
        """Sides in px of the canvases that :meth:`run` reads for this model: they stay in memory until it has."""
        return ()

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        """Measure one model. The model is left as it was.

        Raises:
            TaskSkipped: the task does not apply to this kind of model.
        """
        raise NotImplementedError

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        """Draw all models side by side into ``folder``; none where there is nothing to see."""
        return []

    def settings(self) -> dict[str, Any]:
        """Everything that decides what is measured, as JSON can hold it."""
        return dataclasses.asdict(self)


S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
Method = Callable[Concatenate[S, "EvaluationData", P], R]


def once_a_task(method: Method[S, P, R]) -> Method[S, P, R]:
    """A method of a task whose result is kept while the task lasts, in the data that the run hands to it.

    The task and the arguments after ``data`` are hashable, and tell all that the result depends on.
    """

    @functools.wraps(method)
    def once(task: S, data: EvaluationData, *args: P.args, **kwargs: P.kwargs) -> R:
        key = (method, task, args, tuple(kwargs.items()))
        return data.of_task.get(key, lambda: method(task, data, *args, **kwargs))

    return once  # type: ignore[return-value]  # mypy takes its arguments' names for part of the type


def option(default: Any = dataclasses.MISSING, help: str = "", **kwargs: Any) -> Any:
    """A field of a task that is also a flag; ``help`` is the flag's."""
    return dataclasses.field(default=default, metadata={"help": help}, **kwargs)

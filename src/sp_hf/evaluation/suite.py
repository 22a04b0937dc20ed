"""Run tasks on models and their controls.

Everything that can be refused is refused before the first feature is computed. Controls: one random initialisation an
architecture, and raw pixels as the first model sees them.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError, PackageError
from .accuracy import LabelError
from .controls.low_level_cues import SMALLEST, LowLevelCues
from .data import EvaluationData
from .model import CUES, PIXELS, RANDOM, EvaluatedModel, random_initialisation, raw_pixels
from .short_names import short_names
from .task import Picture, Task, TaskResult, TaskSkipped

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class TaskReport:
    """One task on all models.

    Args:
        task: what was measured.
        results: by model's name, controls first.
        skipped: why a model has no result, by its name.
        left_out: why no model has one, as neither images nor models allow the task.
        seconds: how long each model took.
        pictures: drawn of them.
    """

    task: Task
    results: dict[str, TaskResult] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    pictures: list[Picture] = dataclasses.field(default_factory=list)
    left_out: str | None = None

    def draw(self, folder: Path) -> None:
        """Draw its pictures into a folder."""
        names = short_names(self.results)
        shown = {names[name]: result for name, result in self.results.items()}
        self.pictures = self.task.draw(shown, folder) if shown else []


def with_controls(models: Sequence[EvaluatedModel], seed: int, tasks: Sequence[Task] = ()) -> list[EvaluatedModel]:
    """Raw pixels, low-level cues if a task asks for them, each architecture at random initialisation, then the models.

    A model that is itself that random initialisation (a preset, of the same seed) is its own floor.

    Raises:
        ValueError: two models of one name.
    """
    names = [model.name for model in models]
    repeated = sorted({name for name in names if names.count(name) > 1} | ({PIXELS, RANDOM, CUES} & set(names)))
    if repeated:
        raise InputError(f"models need names of their own; twice or taken: {', '.join(repeated)}")
    floors: dict[tuple[str, str], EvaluatedModel] = {}
    for model in models:
        if _architecture(model) not in floors:
            floors[_architecture(model)] = random_initialisation(model, seed)
    weights = {model.identity for model in models}
    floors = {key: floor for key, floor in floors.items() if floor.identity not in weights}
    if len(floors) > 1:
        for key, floor in floors.items():
            floor.name = f"{RANDOM} (as {next(m.name for m in models if _architecture(m) == key)})"
    wanted = any("cues" in task.controls for task in tasks) and models[0].size >= SMALLEST
    cues = [low_level_cues(models[0])] if wanted else []
    return [raw_pixels(models[0]), *cues, *floors.values(), *models]


def _architecture(model: EvaluatedModel) -> tuple[str, str]:
    return model.describe(), model.preprocess.identity


def low_level_cues(model: EvaluatedModel) -> EvaluatedModel:
    """The control that knows nothing but blur, colour fringes, JPEG blocks, borders and mean colour."""
    return EvaluatedModel(CUES, LowLevelCues().eval(), model.preprocess, role="cues")


def run_suite(
    models: Sequence[EvaluatedModel],
    tasks: Sequence[Task],
    data: EvaluationData,
    *,
    leave_out: bool = False,
    after: Callable[[TaskReport], None] | None = None,
) -> list[TaskReport]:
    """Every task on every model it applies to.

    Args:
        models: with their controls, see :func:`with_controls`.
        tasks: from :func:`~sp_hf.evaluation.tasks.build_tasks`.
        data: what they are measured on.
        leave_out: tasks that these images or models do not allow are left out, with the reason, instead of refused; of
            a task that only some models allow, those that do not.
        after: called when a task is done with all models.

    Raises:
        ValueError: data, options or models with which a task cannot work; nothing has been computed then.
        PackageError: a task needs an optional package that is not installed.
    """
    _ = data.train, data.validation  # raises where there are none
    ready, reports = _prepare(models, tasks, data, leave_out)
    if not ready:
        raise InputError("none of the tasks can work with these images and models (see the reasons above)")
    for note in data.two_sides.notes:
        logger.warning("%s", note)
    needed = [_canvas_sizes(start, models) for start in ready]
    while ready:
        reports.append(_run(ready.pop(0), models, leave_out))
        needed.pop(0)
        data.free_images(canvas_sizes=set().union(*needed))
        if after is not None:
            after(reports[-1])
    return reports


class _Start(NamedTuple):
    """A task that can work, what it has opened, and why models cannot be measured, by their names."""

    task: Task
    data: EvaluationData
    refused: dict[str, str]

    def models(self, models: Sequence[EvaluatedModel]) -> list[EvaluatedModel]:
        """Those that it measures."""
        return [model for model in _models_for(self.task, models) if model.name not in self.refused]


def _prepare(
    models: Sequence[EvaluatedModel], tasks: Sequence[Task], data: EvaluationData, leave_out: bool
) -> tuple[list[_Start], list[TaskReport]]:
    """The tasks that can work, and reports of those that are left out."""
    ready, reports = [], []
    for task in tasks:
        own = data.for_task()
        try:
            task = task.among(_models_for(task, models))
            task.prepare(own)
            refused = _refused(task, _models_for(task, models), own, leave_out)
        except (ValueError, PackageError) as reason:
            if not leave_out:
                raise
            logger.warning("%s is left out: %s", task.name, reason)
            reports.append(_left_out(task, models, str(reason)))
        else:
            ready.append(_Start(task, own, refused))
    return ready, reports


def _refused(task: Task, models: Sequence[EvaluatedModel], data: EvaluationData, leave_out: bool) -> dict[str, str]:
    """Why models cannot be measured, by their names: only some of them, and only where they may be left out.

    Raises:
        ValueError: not one model can be, controls aside, or none may be left out.
    """
    refused = {}
    for model in models:
        try:
            task.check(model, data)
        except ValueError as reason:
            refused[model.name] = str(reason)
            if not leave_out or all(other.name in refused for other in models if other.role == "model"):
                raise
            logger.warning("%s: no %s (%s)", model.name, task.name, reason)
    return refused


def _run(start: _Start, models: Sequence[EvaluatedModel], leave_out: bool) -> TaskReport:
    """One task on all models."""
    task, data = start.task, start.data
    report = TaskReport(task, skipped=dict(start.refused))
    for model in start.models(models):
        started = time.perf_counter()
        try:
            report.results[model.name] = task.run(model, data)
        except TaskSkipped as reason:
            logger.warning("%s: no %s (%s)", model.name, task.name, reason)
            report.skipped[model.name] = str(reason)
            continue
        except LabelError as reason:  # of the images that could be read
            if not leave_out:
                raise
            logger.warning("%s is left out: %s", task.name, reason)
            return _left_out(task, models, str(reason))
        report.seconds[model.name] = time.perf_counter() - started
        logger.info("%s: %s, %.0f s", model.name, task.name, report.seconds[model.name])
    return report


def _canvas_sizes(start: _Start, models: Sequence[EvaluatedModel]) -> set[int]:
    return {size for model in start.models(models) for size in start.task.canvas_sizes(model, start.data)}


def _left_out(task: Task, models: Sequence[EvaluatedModel], reason: str) -> TaskReport:
    return TaskReport(task, skipped={model.name: reason for model in models}, left_out=reason)


def _models_for(task: Task, models: Sequence[EvaluatedModel]) -> list[EvaluatedModel]:
    return [model for model in models if model.role == "model" or model.role in task.controls]

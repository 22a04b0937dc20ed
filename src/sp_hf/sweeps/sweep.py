"""``sp_hf.sweep``: run an experiment, measure it, and write its tables."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..data.datasets import is_embedded
from ..data.sources import DatasetLoadError, locate
from ..errors import InputError
from ..run.recipe import RecipeError
from ..whole_file import write_whole
from .collect import collect
from .jobs import Job, Layout, plan_jobs
from .plan import Plan, read_plan
from .report import write_report
from .runner import run_jobs


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """What there is of a sweep.

    Attributes:
        plan: the sweep, all of it.
        folder: where its runs, evaluations and report are.
        processes: of the part that was asked for, in order: whether each is done, by its name.
        collected: what the JSON file of the sweep holds (its schema: :mod:`sp_hf.sweeps.collect`).

    Example:
        >>> from sp_hf import SweepResult
        >>> from sp_hf.sweeps.plan import Plan
        >>> plan = Plan("mine", "Mine", (0,), {}, {}, (), {}, {})
        >>> SweepResult(plan, Path("runs/mine"), {"DINO, seed 0": True}, collected={}).report.as_posix()
        'runs/mine/mine.md'
    """

    plan: Plan
    folder: Path
    processes: dict[str, bool]
    collected: dict[str, Any]

    @property
    def left(self) -> list[str]:
        """Names of the processes that are not done."""
        return [name for name, done in self.processes.items() if not done]

    @property
    def report(self) -> Path:
        """Tables and plots; there once something was measured."""
        return self.folder / f"{self.plan.name}.md"

    @property
    def numbers(self) -> Path:
        """Every number of the sweep as one JSON file; there once something was measured."""
        return self.folder / f"{self.plan.name}.json"


def sweep(
    file_or_plan: str | os.PathLike[str] | Plan,
    *,
    output_dir: str | os.PathLike[str] = "runs",
    dataset: str | None = None,
    dataset_config: str | None = None,
    dataset_split: str | None = None,
    dataset_revision: str | None = None,
    validation_dataset: str | None = None,
    validation_dataset_config: str | None = None,
    validation_dataset_split: str | None = None,
    validation_dataset_revision: str | None = None,
    seeds: Sequence[int] | None = None,
    only: Sequence[str] | None = None,
    jobs: int | None = None,
    dry_run: bool = False,
) -> SweepResult:
    """An experiment: runs over seeds, each a process, measured alike, in one report. What is done is skipped.

    Args:
        file_or_plan: the sweep's YAML (docs/sweeps.md), or what :func:`sp_hf.sweeps.plan.read_plan` made of it.
        output_dir: the sweep gets a folder in it.
        dataset, dataset_config, dataset_split, dataset_revision: training images, in place of those that recipes name.
        validation_dataset, validation_dataset_config, validation_dataset_split, validation_dataset_revision: images to
            measure on.
        seeds: only these of the sweep's seeds.
        only: only evaluations that begin with these runs.
        jobs: processes at a time; ``None``: one a GPU, or one a core, at most 4.
        dry_run: look what is done and what is left, and run nothing.

    Raises:
        RecipeError: the file or a recipe cannot be used, or a run was made with other options.
        DatasetLoadError: data that is not there.
        SweepError: processes failed; everything that does not need them was done.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after every run has stopped with a checkpoint.

    Example:
        >>> import sp_hf
        >>> recipe = "encoder: vit-micro-8\\nobjectives: [dino, spatial_prediction]"
        >>> _ = Path("base.yaml").write_text(recipe)
        >>> _ = Path("mine.yaml").write_text('''
        ... seeds: [0]
        ... runs: {DINO: {recipe: base.yaml, objectives: [dino]}, DINO + SP: {recipe: base.yaml}}
        ... evaluate: {tasks: [knn]}
        ... evaluations: [[DINO, DINO + SP]]
        ... measures: {knn/accuracy: kNN}
        ... ''')
        >>> sp_hf.sweep("mine.yaml", dry_run=True).left
        ['DINO, seed 0', 'DINO + SP, seed 0', 'evaluation of DINO, DINO + SP, seed 0']
    """
    slots = default_jobs() if jobs is None else jobs
    if slots < 1:
        raise InputError(f"--jobs must be at least 1, not {slots}")
    data = {
        "dataset": dataset,
        "dataset_config": dataset_config,
        "dataset_split": dataset_split,
        "dataset_revision": dataset_revision,
        "validation_dataset": validation_dataset,
        "validation_dataset_config": validation_dataset_config,
        "validation_dataset_split": validation_dataset_split,
        "validation_dataset_revision": validation_dataset_revision,
    }
    options = {name: value for name, value in data.items() if value is not None}
    whole = file_or_plan if isinstance(file_or_plan, Plan) else read_plan(file_or_plan)
    part = chosen(whole, seeds, only)
    layout = Layout.of(part, Path(output_dir))
    plan_jobs(whole, layout, options)  # its report is of all that is there: refused now rather than at the end
    planned = plan_jobs(part, layout, options)
    if dry_run:
        return _result(whole, layout, planned, {})
    check_datasets(planned)
    try:
        run_jobs(planned, slots)
    finally:
        collected = collect(whole, layout, options)  # also what another start of it has done
        result = _result(whole, layout, planned, collected)
        if collected["evaluations"]:
            write_whole(result.numbers, json.dumps(collected, indent=1, allow_nan=False) + "\n")
            write_report(result.report, whole, collected)
    return result


def default_jobs() -> int:
    """Processes at a time: one a GPU, or one a core, at most 4."""
    return torch.cuda.device_count() or min(os.cpu_count() or 1, 4)


def _result(plan: Plan, layout: Layout, jobs: Sequence[Job], collected: dict[str, Any]) -> SweepResult:
    return SweepResult(plan, layout.root, {job.name: job.done for job in jobs}, collected)


def chosen(plan: Plan, seeds: Sequence[int] | None, only: Sequence[str] | None) -> Plan:
    """The part of a plan that was asked for.

    Raises:
        RecipeError: seeds or evaluations that the plan does not have.
    """
    if seeds is not None:
        odd = sorted(set(seeds) - set(plan.seeds))
        if odd:
            raise RecipeError(f"seed {odd[0]} is not in the sweep; it has {', '.join(map(str, plan.seeds))}")
        plan = dataclasses.replace(plan, seeds=tuple(seed for seed in plan.seeds if seed in seeds))
    if only is not None:
        firsts = [names[0] for names in plan.evaluations]
        unknown = [name for name in only if name not in firsts]
        if unknown:
            raise RecipeError(f"no evaluation begins with {unknown[0]!r}; there are: {', '.join(firsts)}")
        evaluations = tuple(names for names in plan.evaluations if names[0] in only)
        plan = dataclasses.replace(plan, evaluations=evaluations, runs=_needed(plan, evaluations))
    return plan


def _needed(plan: Plan, evaluations: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    """The runs of these evaluations, and those that they start from, in the plan's order."""
    wanted = {name for names in evaluations for name in names}
    for run in reversed(plan.runs.values()):
        if run.name in wanted and run.starts_from is not None:
            wanted.add(run.starts_from)
    return {name: run for name, run in plan.runs.items() if name in wanted}


def check_datasets(jobs: list[Job]) -> None:
    """Before anything is run: datasets that are not there, as far as one can tell without the network.

    Raises:
        RecipeError: a recipe's placeholder is left.
        DatasetLoadError: no such file or folder, or one without images.
    """
    for job in jobs:
        for dataset in () if job.done else job.datasets():
            if dataset.startswith("path/to/"):
                raise RecipeError(f"{job.name}: its recipe says {dataset!r}; name the file with --dataset")
            if not is_embedded(dataset):
                try:
                    locate(dataset)
                except DatasetLoadError as error:
                    raise DatasetLoadError(f"{job.name}: {error}") from error

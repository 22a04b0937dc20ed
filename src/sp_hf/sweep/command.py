"""``sp-hf sweep FILE``: run an experiment, measure it, and write its tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch

from ..data.datasets import EMBEDDED
from ..data.sources import DatasetLoadError, locate
from ..evaluation.command import parser as evaluation_parser
from ..run.recipe import RecipeError
from ..whole_file import write_whole
from .collect import collect
from .jobs import Job, Layout, plan_jobs
from .plan import Plan, read_plan
from .report import write_report
from .runner import run_jobs


def sweep_command(argv: list[str]) -> int:
    """Entry point of ``sp-hf sweep``; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="sp-hf sweep",
        description="An experiment: runs over seeds, measured alike, in one report. What is done is skipped.",
        allow_abbrev=False,
    )
    parser.add_argument("file", help="the sweep's YAML, such as recipes/sweeps/part_scenes.yaml")
    parser.add_argument("--dataset", help="training images, where the recipes only say path/to/...")
    parser.add_argument("--validation_dataset", "--validation-dataset", help="images to measure on")
    parser.add_argument(
        "--output_dir", "--output-dir", type=Path, default=Path("runs"), help="the sweep gets a folder in it"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="only these of the sweep's seeds")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="only evaluations that begin with these runs")
    parser.add_argument(
        "--jobs",
        type=int,
        default=torch.cuda.device_count() or min(os.cpu_count() or 1, 4),
        help="processes at a time (default: one a GPU, or one a core, at most 4)",
    )
    parser.add_argument("--list", action="store_true", help="say what is done and what is left, and run nothing")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, not {args.jobs}")
    whole = read_plan(args.file)
    plan = chosen(whole, args.seeds, args.only)
    layout = Layout.of(plan, args.output_dir)
    options = {key: value for key in ("dataset", "validation_dataset") if (value := getattr(args, key)) is not None}
    plan_jobs(whole, layout, options)  # its report is of all that is there: refused now rather than at the end
    jobs = plan_jobs(plan, layout, options)
    if args.list:
        print("\n".join(f"{'done' if job.done else 'left'}  {job.name}" for job in jobs))
        return 0
    check_datasets(jobs)
    try:
        run_jobs(jobs, args.jobs)
    except KeyboardInterrupt:
        print("Stopped, with checkpoints. The same command goes on.")
        raise
    finally:
        found = collect(whole, layout, options)  # also what another start of it has done
        if found["evaluations"]:
            write_whole(layout.root / f"{plan.name}.json", json.dumps(found, indent=1, allow_nan=False) + "\n")
            write_report(layout.root / f"{plan.name}.md", whole, found)
    print(
        f"{plan.title}: tables and plots in {layout.root / plan.name}.md, the numbers in {layout.root / plan.name}.json"
    )
    return 0


def chosen(plan: Plan, seeds: list[int] | None, only: list[str] | None) -> Plan:
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
        odd = [name for name in only if name not in firsts]
        if odd:
            raise RecipeError(f"no evaluation begins with {odd[0]!r}; there are: {', '.join(firsts)}")
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
        for dataset in () if job.done else datasets_of(job):
            if dataset.startswith("path/to/"):
                raise RecipeError(f"{job.name}: its recipe says {dataset!r}; name the file with --dataset")
            if dataset.partition("?")[0] != EMBEDDED:
                try:
                    locate(dataset)
                except DatasetLoadError as error:
                    raise DatasetLoadError(f"{job.name}: {error}") from error


def datasets_of(job: Job) -> list[str]:
    """All that its process will read."""
    if job.is_training:
        options = job.recipe or {}
    else:
        options = vars(evaluation_parser("sp-hf evaluate").parse_args(job.argv[1:]))
    return [str(value) for key, value in options.items() if key.endswith("dataset") and value is not None]

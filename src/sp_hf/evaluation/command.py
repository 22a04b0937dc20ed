"""``sp-hf evaluate MODEL [MODEL ...]``: what and where, models side by side with their floors."""

from __future__ import annotations

import argparse
import os
import sys
import types
import typing
from pathlib import Path
from typing import Any

from ..boundary import check_folder, open_device
from ..flags import FlagParser
from .cache import FeatureCache, default_cache_dir
from .data import EvaluationData
from .model import open_model
from .report import results_dict, terminal_table, write_report
from .source import DataSource
from .suite import TaskReport, run_suite, with_controls
from .tasks import DEFAULT_TASKS, TASKS, build_tasks, options_of


def evaluate_models(args: argparse.Namespace, command: str) -> None:
    """Measure, print the table and write the report. ``--push_results`` is for the caller to do.

    Args:
        args: what :func:`parser` made of the flags.
        command: kept in the report.

    Raises:
        ValueError: data, options or models with which a task cannot work.
    """
    if args.output_dir:
        check_folder("--output_dir", args.output_dir)
    if not args.no_cache and args.cache_dir:
        check_folder("--cache_dir", args.cache_dir)
    device = open_device(args.device)
    tasks = build_tasks(args.tasks, vars(args))
    source = DataSource(**{name: getattr(args, name) for name in _SOURCE_FLAGS}, max_images=args.max_images or None)
    cache = FeatureCache(None if args.no_cache else args.cache_dir or default_cache_dir())
    data = EvaluationData(
        source,
        seed=args.seed,
        cache=cache,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        progress=sys.stderr.isatty(),
    )
    names = dict.fromkeys(args.models)
    models = [open_model(name, size=args.size, device=device, seed=args.seed) for name in names]
    everyone = with_controls(models, args.seed, tasks)
    folder = Path(args.output_dir) if args.output_dir else None
    done: list[TaskReport] = []

    def save(report: TaskReport) -> None:
        """After each task, so that an interrupted run keeps what it has."""
        done.append(report)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            report.pictures = report.task.draw(report.results, folder)
            write_report(results_dict(done, everyone, data, command), folder)

    reports = run_suite(everyone, tasks, data, leave_out="all" in args.tasks, after=save)
    print(terminal_table(results_dict(reports, everyone, data, command)))
    if folder is not None:
        print(
            f"\nAll figures, differences and pictures: {folder / 'report.md'}; the numbers: {folder / 'results.json'}"
        )


_SOURCE_FLAGS = (
    "dataset",
    "split",
    "config",
    "revision",
    "validation_dataset",
    "validation_split",
    "image_column",
    "label_column",
)


def parser(prog: str) -> argparse.ArgumentParser:
    """The flags: of the run, and of every task (made of its options)."""
    made = FlagParser(
        prog=prog,
        description="What a vision model knows, and where: any model of the Hub or on disk, several side by side.",
    )
    made.add_argument(
        "models", nargs="+", metavar="MODEL", help="[NAME=]Hub id, folder, run folder or preset (untrained)"
    )
    made.add_argument("--tasks", nargs="+", default=DEFAULT_TASKS, metavar="TASK", help=f"all, or: {', '.join(TASKS)}")
    made.add_argument("--output_dir", help="for results.json, report.md and pictures")
    made.add_argument(
        "--push_results", "--push-results", metavar="REPO", help="merge them into the card of this model on the Hub"
    )
    made.add_argument("--create_pr", "--create-pr", action="store_true", help="as a pull request, also if it is yours")
    images = made.add_argument_group("images")
    images.add_argument("--dataset", default="part-scenes", help="training side: as for sp-hf pretrain")
    images.add_argument("--split", help="its split; default: train")
    images.add_argument("--config", help="configuration of a Hub dataset")
    images.add_argument("--revision", help="branch, tag or commit of a Hub dataset")
    images.add_argument("--validation_dataset", help="validation side; default: --dataset")
    images.add_argument("--validation_split", help="its split; default: validation, val or test")
    images.add_argument("--image_column", help="default: found by type")
    images.add_argument("--label_column", help="default: found by type")
    images.add_argument("--max_images", type=int, default=0, help="of each side, chosen at random; 0 for all")
    images.add_argument("--size", type=int, help="side in px of whole images; default: each model's own")
    how = made.add_argument_group("how")
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--batch_size", type=int, default=64)
    how.add_argument(
        "--num_workers", type=int, default=min(8, (os.cpu_count() or 1) // 2), help="processes that decode"
    )
    how.add_argument("--device", help="default: cuda where there is one")
    how.add_argument("--cache_dir", help=f"of features; default: {default_cache_dir()}")
    how.add_argument("--no_cache", action="store_true", help="compute all features anew and keep none")
    for task in TASKS.values():
        group = made.add_argument_group(task.name, (task.__doc__ or "").split("\n")[0])
        hints = typing.get_type_hints(task)
        for flag, field in options_of(task).items():
            kind, several = _argument_type(hints[field.name])
            more: dict[str, Any] = {"nargs": "+"} if several else {}
            shown = field.default if field.default is not None else ""
            text = field.metadata["help"] + (f" (default: {_shown(shown)})" if shown != "" else "")
            group.add_argument(f"--{flag}", type=kind, default=None, help=text, metavar=kind.__name__.upper(), **more)
    return made


def _argument_type(hint: Any) -> tuple[type, bool]:
    """The type of one value of a flag, and whether it takes several."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

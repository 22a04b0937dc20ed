"""The flags of ``sp-hf evaluate``: the arguments of :func:`sp_hf.evaluate`, by the same names."""

from __future__ import annotations

import argparse
import sys
import types
import typing
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.flags import add_data_flags
from ..data.sources import check_place
from ..declared import declared
from ..encoders.names import check_name
from ..errors import PluginError
from ..flags import FlagParser
from .flags import RENAMED, check_tasks, options_of
from .presets import PRESETS

if TYPE_CHECKING:
    from .task import Task


def parser(prog: str = "sp-hf evaluate") -> argparse.ArgumentParser:
    """The flags: of the run, and of every task (made of its options)."""
    tasks, usual = _tasks(), declared("sp_hf.evaluation.tasks", "DEFAULT_TASKS")
    flags = FlagParser(
        prog=prog,
        renamed=RENAMED,
        description="What a vision model knows, and where: any model of the Hub or on disk, several side by side.",
    )
    flags.add_argument(
        "models", nargs="+", metavar="MODEL", help="[NAME=]Hub id, folder, run folder or preset (untrained)"
    )
    listed = f"all, or: {', '.join(tasks)}; default: {' '.join(usual)}, as far as the images allow"
    flags.add_argument("--tasks", nargs="+", metavar="TASK", help=listed)
    flags.add_argument("--output_dir", help="for results.json, report.md and pictures")
    flags.add_argument("--push_results", metavar="REPO", help="merge them into the card of this model on the Hub")
    flags.add_argument("--benchmark", metavar="DATASET", help="and put those of where-bench into its .eval_results/")
    flags.add_argument("--create_pr", action="store_true", help="as a pull request, also if it is yours")
    images = flags.add_argument_group("images", "default: part-scenes, which are drawn here")
    named = "dataset, columns and tasks by one name, which other flags change"
    images.add_argument("--preset", choices=list(PRESETS), help=f"{named}: {', '.join(PRESETS)}", metavar="NAME")
    add_data_flags(images)
    images.add_argument("--image_column", help="default: found by type")
    images.add_argument("--label_column", help="default: found by type")
    most = "of each side, chosen at random; default: all. Of part-scenes no more are drawn"
    images.add_argument("--max_images", type=int, help=most)
    images.add_argument("--size", type=int, help="side in px of whole images; default: each model's own")
    general = flags.add_argument_group("how")
    general.add_argument("--seed", type=int, help="of every random choice (default: 0)")
    refits = declared("sp_hf.evaluation.probes.refits", "REFITS")
    general.add_argument(
        "--refits", type=int, help=f"of cheap probes to half of the training images (default: {refits})"
    )
    general.add_argument("--batch_size", type=int, help="images encoded at once (default: 64)")
    general.add_argument("--num_workers", type=int, help="processes that decode; default: one for two cores, at most 8")
    general.add_argument("--device", help="default: cuda where there is one")
    general.add_argument("--cache_dir", help="of features; default: $SP_HF_CACHE, or in the Hugging Face home")
    general.add_argument("--no_cache", action="store_true", help="compute all features anew and keep none")
    for task in tasks.values():
        group = flags.add_argument_group(task.name, (task.__doc__ or "").split("\n")[0])
        hints = typing.get_type_hints(task)
        for flag, field in options_of(task).items():
            kind, several = _argument_type(hints[field.name])
            more: dict[str, Any] = {"nargs": "+"} if several else {}
            shown = field.default if field.default is not None else ""
            if f"--{flag}" in flags._option_string_actions:
                raise PluginError(f"task {task.name!r} has an option whose flag --{flag} is taken; rename the option.")
            text = field.metadata["help"] + (f" (default: {_shown(shown)})" if shown != "" else "")
            group.add_argument(f"--{flag}", type=kind, default=None, help=text, metavar=kind.__name__.upper(), **more)
    return flags


def check_names(options: Mapping[str, Any]) -> None:
    """Refuse tasks that there are not, and models and images at places that are not there, before any work.

    Raises:
        InputError, NotFoundError, DataError: as the evaluation itself would, seconds later.
    """
    check_tasks([name.replace("_", "-") for name in options.get("tasks", ())], [*_tasks(), "all"])
    for model in options["models"]:
        name, equals, place = model.partition("=")
        place = place if equals and name and place else model
        if not (Path(model).exists() or Path(place).expanduser().exists()):
            check_name(place)
    for name in ("dataset", "validation_dataset"):
        if name in options:
            check_place(options[name])


def _tasks() -> Mapping[str, type[Task]]:
    """All tasks; the package's own as read from their source, unless a package or a script adds to them."""
    if "sp_hf.evaluation.tasks" not in sys.modules and not entry_points(group="sp_hf.tasks"):
        return declared("sp_hf.evaluation.tasks", "_OWN")
    from .tasks import TASKS

    return TASKS.available()


def _argument_type(hint: Any) -> tuple[type, bool]:
    """The type of one value of a flag, and whether it takes several."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

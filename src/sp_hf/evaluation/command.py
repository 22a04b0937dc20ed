"""The flags of ``sp-hf evaluate``: the arguments of :func:`sp_hf.evaluate`, by the same names."""

from __future__ import annotations

import argparse
import types
import typing
from typing import Any

from ..data.datasets import EMBEDDED
from ..errors import PluginError
from ..flags import FlagParser
from .cache import default_cache_dir
from .evaluate import default_num_workers
from .options import RENAMED
from .probes.refits import REFITS
from .tasks import DEFAULT_TASKS, TASKS, options_of


def parser(prog: str = "sp-hf evaluate") -> argparse.ArgumentParser:
    """The flags: of the run, and of every task (made of its options)."""
    made = FlagParser(
        prog=prog,
        renamed=RENAMED,
        description="What a vision model knows, and where: any model of the Hub or on disk, several side by side.",
    )
    made.add_argument(
        "models", nargs="+", metavar="MODEL", help="[NAME=]Hub id, folder, run folder or preset (untrained)"
    )
    defaults = f"default: {' '.join(DEFAULT_TASKS)}, as far as the images allow"
    made.add_argument("--tasks", nargs="+", metavar="TASK", help=f"all, or: {', '.join(TASKS)}; {defaults}")
    made.add_argument("--output_dir", help="for results.json, report.md and pictures")
    made.add_argument("--push_results", metavar="REPO", help="merge them into the card of this model on the Hub")
    made.add_argument("--create_pr", action="store_true", help="as a pull request, also if it is yours")
    images = made.add_argument_group("images")
    add_data_flags(images, EMBEDDED)
    images.add_argument("--image_column", help="default: found by type")
    images.add_argument("--label_column", help="default: found by type")
    most = "of each side, chosen at random; 0 for all. Of part-scenes no more are drawn"
    images.add_argument("--max_images", type=int, default=0, help=most)
    images.add_argument("--size", type=int, help="side in px of whole images; default: each model's own")
    how = made.add_argument_group("how")
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--refits", type=int, help=f"of cheap probes to half of the training images (default: {REFITS})")
    how.add_argument("--batch_size", type=int, default=64)
    how.add_argument("--num_workers", type=int, default=default_num_workers(), help="processes that decode")
    how.add_argument("--device", help="default: cuda where there is one")
    how.add_argument("--cache_dir", help=f"of features; default: {default_cache_dir()}")
    how.add_argument("--no_cache", action="store_true", help="compute all features anew and keep none")
    for task in TASKS.available().values():
        group = made.add_argument_group(task.name, (task.__doc__ or "").split("\n")[0])
        hints = typing.get_type_hints(task)
        for flag, field in options_of(task).items():
            kind, several = _argument_type(hints[field.name])
            more: dict[str, Any] = {"nargs": "+"} if several else {}
            shown = field.default if field.default is not None else ""
            if f"--{flag}" in made._option_string_actions:
                raise PluginError(f"task {task.name!r} has an option whose flag --{flag} is taken; rename the option.")
            text = field.metadata["help"] + (f" (default: {_shown(shown)})" if shown != "" else "")
            group.add_argument(f"--{flag}", type=kind, default=None, help=text, metavar=kind.__name__.upper(), **more)
    return made


DATA_FLAGS = {
    "dataset": "training side: Hub id, image folder, parquet/arrow glob, WebDataset tars, or part-scenes (embedded)",
    "dataset_config": "configuration of a Hub dataset",
    "dataset_split": "its split; default: train",
    "dataset_revision": "branch, tag or commit of a Hub dataset",
    "validation_dataset": "validation side; default: --dataset",
    "validation_dataset_config": "its configuration; default: --dataset_config where it is the same dataset",
    "validation_dataset_split": "its split; default: validation, val or test, or a fifth of the training split",
    "validation_dataset_revision": "its revision; default: --dataset_revision where it is the same dataset",
}
"""How data is spelled in every command, and what it means."""


def add_data_flags(group: Any, dataset: str | None = None) -> None:
    """Add :data:`DATA_FLAGS` to a parser, or a group of one; ``dataset`` is the default one."""
    for name, text in DATA_FLAGS.items():
        group.add_argument(f"--{name}", default=dataset if name == "dataset" else None, help=text)


def _argument_type(hint: Any) -> tuple[type, bool]:
    """The type of one value of a flag, and whether it takes several."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True
    return hint, False


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

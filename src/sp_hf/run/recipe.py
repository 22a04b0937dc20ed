"""Resolves a YAML recipe and flags into a run's arguments: flags win, a typo is an error."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

from ..boundary import refusals_of
from ..errors import RecipeError
from ..objectives import OBJECTIVES, Objective, ObjectiveConfig, parse_entry, to_entry
from ..optimisation.learning_rate import without_other_rate
from .arguments import DataArguments, ModelArguments, PretrainingArguments
from .flags import checked_options, read_flags, run_parser
from .recipe_file import as_list, extended, merged, named_entry, read_recipe, write_recipe

__all__ = [
    "RecipeError",
    "extended",
    "merge_objectives",
    "merged",
    "parse_run",
    "read_flags",
    "read_recipe",
    "resolve_run",
    "write_recipe",
]

_ARGUMENTS = (ModelArguments, DataArguments, PretrainingArguments)


def parse_run(argv: list[str]) -> tuple[ModelArguments, DataArguments, PretrainingArguments]:
    """Arguments of a run from ``--recipe FILE`` and flags.

    Args:
        argv: the command line after ``sp-hf pretrain``.

    Raises:
        UsageError, RecipeError, InputError: see :func:`read_flags` and :func:`resolve_run`.
        SystemExit: argparse's, for ``--help``.
    """
    given = read_flags(argv)
    return resolve_run(given, given.pop("recipe", None))


def resolve_run(
    options: Mapping[str, Any], recipe: str | Path | Mapping[str, Any] | None = None
) -> tuple[ModelArguments, DataArguments, PretrainingArguments]:
    """Arguments of a run: defaults, under the recipe's options, under those given.

    Args:
        options: by name; they win over the recipe's. An objective that the recipe describes keeps its options there.
        recipe: a file, or what one holds.

    Raises:
        RecipeError: the recipe is missing or no mapping; an unknown option, or a value that no run can use.
        InputError: values that transformers refuses; an objective is unknown, or an option of one is wrong.
    """
    described = {} if recipe is None else recipe if isinstance(recipe, Mapping) else read_recipe(recipe)
    prefix = f"{recipe}: " if isinstance(recipe, (str, Path)) else ""
    parser = run_parser(_ARGUMENTS, HfArgumentParser, exit_on_error=False)
    described, options = checked_options(described, parser, prefix), checked_options(options, parser)
    parser.set_defaults(**{**without_other_rate(described, options), **options})
    try:
        with refusals_of("transformers"):  # its own checks of its arguments
            model, data, training = parser.parse_args_into_dataclasses(args=[], look_for_args_file=False)
    except argparse.ArgumentError as error:  # text in a recipe where a number belongs
        raise RecipeError(f"{prefix}{error}") from error
    model.objectives = merge_objectives(as_list(model.objectives), as_list(described.get("objectives", [])))
    model.teacher_momentum = list(model.teacher_momentum)
    if training.output_dir is None or training.output_dir == "trainer_output":
        training.output_dir = str(Path("runs") / (Path(recipe).stem if isinstance(recipe, (str, Path)) else "pretrain"))
    return model, data, training


def merge_objectives(chosen: list[Any], recipe: list[Any]) -> list[dict[str, Any]]:
    """Full entries of the chosen objectives.

    ``chosen`` holds names, ``name=weight`` or mappings. A name that the recipe describes keeps the recipe's options,
    so ``--objectives dino`` on a recipe of DINO + SP is exactly its control.

    Raises:
        RecipeError: a weight that is no number, or an entry without a name.
        ValueError: an unknown objective, or a wrong option of one.
    """
    described = {e["name"]: e for e in map(_entry, recipe)}
    entries = []
    for item in chosen:
        entry = _entry(item)
        entries.append({**described.get(entry["name"], {}), **entry})
        parse_entry(entries[-1])
    return entries


def _entry(item: Any) -> dict[str, Any]:
    """The mapping that an objective's name, ``name=weight``, mapping, class or options stand for."""
    is_object = isinstance(item, (ObjectiveConfig, Objective, type))
    return _entry_of_object(item) if is_object else named_entry(item)


def _entry_of_object(item: Any) -> dict[str, Any]:
    """An objective's class stands for its defaults, an instance for its options: a run builds its heads anew."""
    config = item.config if isinstance(item, Objective) else item
    for name, kind in itertools.chain(OBJECTIVES.loaded.items(), _of_packages()):
        if config is kind or config is kind.config_class:
            return {"name": name}
        if type(config) is kind.config_class and (config is item or type(item) is kind):
            return to_entry(name, config)
    called = item.__name__ if isinstance(item, type) else type(item).__name__
    raise RecipeError(
        f"{called} is neither an objective nor the options of one; there are: {', '.join(OBJECTIVES)}. One of your own"
        ' becomes known by @sp_hf.register_objective("its_name").'
    )


def _of_packages() -> Iterator[tuple[str, type[Objective]]]:
    """Those of installed packages, imported when they are asked for."""
    yield from OBJECTIVES.available().items()

"""From a YAML recipe and flags to the run's arguments: flags win, a typo is an error."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

from ..boundary import refusals_of
from ..errors import RecipeError, UsageError
from ..flags import FlagParser, did_you_mean, renamed_option, unknown_flag
from ..objectives import OBJECTIVES, Objective, ObjectiveConfig, parse_entry, to_entry
from ..optimisation.learning_rate import without_other_rate
from .arguments import RENAMED, DataArguments, ModelArguments, PretrainingArguments
from .limits import check_options
from .recipe_file import read_mapping, write_recipe

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
_NOT_GIVEN = object()


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


def read_flags(argv: Sequence[str]) -> dict[str, Any]:
    """The options that a command line gives, ``recipe`` among them; nothing for flags that are not there.

    Raises:
        UsageError: an unknown flag, or a value of the wrong type.
        SystemExit: argparse's, for ``--help``.
    """
    parser = _RunParser(_ARGUMENTS, prog="sp-hf pretrain", renamed=RENAMED)
    parser.add_argument("--recipe", help="YAML file with any of the options below; flags win over it.")
    names = {action.dest for action in parser._actions} - {"help"}
    found, unknown = parser.parse_known_args(argv, argparse.Namespace(**dict.fromkeys(names, _NOT_GIVEN)))
    if unknown:
        raise UsageError(unknown_flag(unknown[0], [f"--{name}" for name in names]))
    return {name: value for name, value in vars(found).items() if value is not _NOT_GIVEN}


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
    where = f"{recipe}: " if isinstance(recipe, (str, Path)) else ""
    parser = _RunParser(_ARGUMENTS, prog="sp-hf pretrain", exit_on_error=False)
    described, options = _checked(described, parser, where), _checked(options, parser)
    parser.set_defaults(**{**without_other_rate(described, options), **options})
    try:
        with refusals_of("transformers"):  # its own checks of its arguments
            model, data, training = parser.parse_args_into_dataclasses(args=[], look_for_args_file=False)
    except argparse.ArgumentError as error:  # text in a recipe where a number belongs
        raise RecipeError(f"{where}{error}") from error
    model.objectives = merge_objectives(_as_list(model.objectives), _as_list(described.get("objectives", [])))
    model.teacher_momentum = list(model.teacher_momentum)
    if training.output_dir is None or training.output_dir == "trainer_output":
        training.output_dir = str(Path("runs") / (Path(recipe).stem if isinstance(recipe, (str, Path)) else "pretrain"))
    return model, data, training


class _RunParser(FlagParser, HfArgumentParser):
    """transformers' parser of dataclasses, with our spelling of flags."""


def _checked(options: Mapping[str, Any], parser: argparse.ArgumentParser, where: str = "") -> dict[str, Any]:
    """Options by today's names, each of which must be known, and have a value that a run can use."""
    known = {action.dest for action in parser._actions} - {"help"}
    options = {renamed_option(str(key), RENAMED, where): value for key, value in options.items()}
    for key in options:
        if key not in known:
            raise RecipeError(f"{where}unknown option {key!r}{did_you_mean(key, known)}")
    check_options(options)
    return options


def _as_list(objectives: Any) -> list[Any]:
    return list(objectives) if isinstance(objectives, (list, tuple)) else [objectives]


def read_recipe(path: str | Path, _extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in a YAML file (read with the safe loader), with that of the file it ``extends`` under it.

    ``extends: other.yaml`` names a file beside this one; see :func:`extended` for how they are merged.

    Raises:
        RecipeError: no such file, not text, not YAML, a key twice, not a mapping, or recipes that extend each other in
            a circle.
    """
    path, recipe = Path(path), read_mapping(path)
    if "extends" not in recipe:
        return recipe
    before, chain = recipe.pop("extends"), (*_extended_by, path.resolve())
    if not isinstance(before, str):
        raise RecipeError(f"{path}: extends must name one file, not {before!r}")
    if (path.parent / before).resolve() in chain:
        circle = " -> ".join(file.name for file in (*chain, Path(before)))
        raise RecipeError(f"{path}: recipes that extend each other in a circle: {circle}")
    return extended(read_recipe(path.parent / before, chain), recipe)


def extended(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with changes to it: mappings are merged, ``null`` takes an option away.

    ``objectives`` says which there are, in which order; each is merged into the base's entry of its name.

    Raises:
        RecipeError: an objective without a name, or a weight that is no number.
    """
    made = merged(without_other_rate(base, changes), changes)
    if changes.get("objectives") is not None:
        described = {entry["name"]: entry for entry in map(_entry, _as_list(base.get("objectives") or []))}
        chosen = map(_entry, _as_list(changes["objectives"]))
        made["objectives"] = [_merged_entry(described.get(entry["name"], {}), entry) for entry in chosen]
    return made


def _merged_entry(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """As :func:`merged`; ``null`` within views stays, as it takes a part of the objective's default away."""
    described = {n: v for n, v in changes.items() if isinstance(v, dict) and isinstance(base.get(n), dict)}
    return {**merged(base, changes), **{name: {**base[name], **value} for name, value in described.items()}}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``; mappings within are merged too, ``null`` takes an option away."""
    made = dict(base)
    for key, value in changes.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict) and isinstance(made.get(key), dict):
            made[key] = merged(made[key], value)
        else:
            made[key] = value
    return made


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
    if isinstance(item, (ObjectiveConfig, Objective)) or isinstance(item, type):
        entry = _entry_of_object(item)
    elif isinstance(item, dict):
        if "name" not in item:
            raise RecipeError(f"an objective needs a name: {item}")
        entry = dict(item)
    else:
        name, equals, weight = str(item).partition("=")
        entry = {"name": name}
        if equals:
            try:
                entry["weight"] = float(weight)
            except ValueError:
                raise RecipeError(f"objective {item!r}: the weight {weight!r} is not a number.") from None
    return entry


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

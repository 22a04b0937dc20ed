"""From a YAML recipe and flags to the run's arguments: flags win, a typo is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

from ..boundary import refusals_of
from ..errors import RecipeError, UsageError
from ..flags import FlagParser, did_you_mean, unknown_flag
from ..objectives import parse_entry
from .arguments import DataArguments, ModelArguments, PretrainingArguments
from .limits import check_options
from .recipe_file import read_recipe, write_recipe

__all__ = ["RecipeError", "merge_objectives", "parse_run", "read_recipe", "write_recipe"]


class _RunParser(FlagParser, HfArgumentParser):
    """transformers' parser of dataclasses, with our spelling of flags."""


def run_parser() -> HfArgumentParser:
    """The flags of ``sp-hf pretrain``."""
    parser = _RunParser((ModelArguments, DataArguments, PretrainingArguments), prog="sp-hf pretrain")
    parser.add_argument("--recipe", help="YAML file with any of the options below; flags win over it.")
    return parser


def parse_run(argv: list[str]) -> tuple[ModelArguments, DataArguments, PretrainingArguments]:
    """Arguments of a run from ``--recipe FILE`` and flags.

    Args:
        argv: the command line after ``sp-hf pretrain``.

    Raises:
        RecipeError: the recipe is missing, is no mapping, or has an unknown key; a value that no run can use, or that
            transformers refuses.
        UsageError: an unknown flag, or a value of the wrong type.
        InputError: an objective is unknown, or an option of one is wrong.
        SystemExit: argparse's, for ``--help``.
    """
    first = FlagParser(prog="sp-hf pretrain", add_help=False)
    first.add_argument("--recipe")
    found, rest = first.parse_known_args(argv)
    parser = run_parser()
    recipe = read_recipe(found.recipe) if found.recipe else {}
    known = {action.dest for action in parser._actions} - {"help", "recipe"}
    for key in recipe:
        if key not in known:
            raise RecipeError(f"{found.recipe}: unknown option {key!r}{did_you_mean(key, known)}")
    if not isinstance(recipe.get("objectives", []), list):
        raise RecipeError(f"{found.recipe}: objectives is {recipe['objectives']!r}; it must be a list, as in [dino]")
    check_options(recipe)
    parser.set_defaults(**recipe)
    options, unknown = parser.parse_known_args(rest)
    if unknown:
        raise UsageError(unknown_flag(unknown[0], [f"--{name}" for name in known]))
    check_options(vars(options))
    with refusals_of("transformers"):  # its own checks of its arguments
        model, data, training = parser.parse_args_into_dataclasses(args=rest, look_for_args_file=False)[:3]
    model.objectives = merge_objectives(model.objectives, recipe.get("objectives", []))
    if training.output_dir is None or training.output_dir == "trainer_output":
        training.output_dir = str(Path("runs") / (Path(found.recipe).stem if found.recipe else "pretrain"))
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
    if isinstance(item, dict):
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

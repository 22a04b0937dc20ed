"""From a YAML recipe and flags to the run's arguments: flags win, a typo is an error."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from ..objectives import parse_entry
from .arguments import DataArguments, ModelArguments, PretrainingArguments


class RecipeError(ValueError):
    """A recipe or flag that cannot be used; the message says which and what to write instead."""


def parse_run(argv: list[str]) -> tuple[ModelArguments, DataArguments, PretrainingArguments]:
    """Arguments of a run from ``--recipe FILE`` and flags.

    Args:
        argv: the command line after ``sp-hf pretrain``.

    Raises:
        RecipeError: the recipe is missing, is no mapping, or has an unknown key; an unknown flag, or values that
            transformers refuses.
        ValueError: an objective is unknown, or an option of one is wrong.
        SystemExit: argparse's, for a value of the wrong type or ``--help``.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--recipe")
    found, rest = first.parse_known_args(argv)
    parser = HfArgumentParser(
        (ModelArguments, DataArguments, PretrainingArguments), prog="sp-hf pretrain", allow_abbrev=False
    )
    parser.add_argument("--recipe", help="YAML file with any of the options below; flags win over it.")
    recipe = read_recipe(found.recipe) if found.recipe else {}
    known = {action.dest for action in parser._actions} - {"help", "recipe"}
    for key in recipe:
        if key not in known:
            raise RecipeError(f"{found.recipe}: unknown option {key!r}{_did_you_mean(key, known)}")
    parser.set_defaults(**recipe)
    try:
        model, data, training, _, unknown = parser.parse_args_into_dataclasses(
            args=rest, look_for_args_file=False, return_remaining_strings=True
        )
    except ValueError as error:  # transformers' own checks of its arguments
        raise RecipeError(str(error)) from error
    if unknown:
        raise RecipeError(f"unknown flag {unknown[0]!r}{_did_you_mean(unknown[0], [f'--{name}' for name in known])}")
    model.objectives = merge_objectives(model.objectives, recipe.get("objectives", []))
    if training.output_dir is None or training.output_dir == "trainer_output":
        training.output_dir = str(Path("runs") / (Path(found.recipe).stem if found.recipe else "pretrain"))
    return model, data, training


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file (read with the safe loader).

    Raises:
        RecipeError: no such file, not YAML, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        here = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise RecipeError(f"no recipe at {path}." + (f" There are: {', '.join(here)}." if here else ""))
    try:
        recipe = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"{path} must hold a mapping of options, not {type(recipe).__name__}.")
    return recipe


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


def _did_you_mean(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

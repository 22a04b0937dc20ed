"""From a YAML recipe and flags to the run's arguments: flags win, a typo is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from transformers import HfArgumentParser

from ..boundary import refusals_of
from ..errors import RecipeError, UsageError
from ..flags import Parser, did_you_mean, unknown_flag
from ..objectives import parse_entry
from .arguments import DataArguments, ModelArguments, PretrainingArguments
from .limits import check_options
from .recipe_file import read_recipe


class _RunParser(HfArgumentParser, Parser):
    """transformers' parser of dataclasses, with this package's errors."""

    def error(self, message: str) -> NoReturn:
        Parser.error(self, message)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        return Parser.parse_args(self, *args, **kwargs)


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
    first = Parser(prog="sp-hf pretrain", add_help=False)
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


def write_recipe(path: Path, options: dict[str, Any]) -> None:
    """A run's options as a recipe that :func:`read_recipe` reads again."""
    path.write_text(yaml.safe_dump(options, sort_keys=False, allow_unicode=True), encoding="utf-8")


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

"""The flags of ``sp-hf pretrain``: fields of the arguments' dataclasses, known without importing PyTorch.

The classes are read from their source, TrainingArguments of the installed transformers among them, and transformers'
parser of dataclasses is loaded from its file, which needs nothing else of it.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..declared import DeclarationError, declared
from ..errors import RecipeError, UsageError
from ..flags import FlagParser, did_you_mean, renamed_option, unknown_flag
from .limits import WITHOUT_EFFECT, check_options
from .recipe_file import read_recipe

RENAMED = {"validation_split": "validation_dataset_split"}
"""Today's names of options, by old ones; both may be given."""
CLASSES = ("ModelArguments", "DataArguments", "PretrainingArguments")
"""Dataclasses of :mod:`.arguments`, in the order in which help shows them."""
_NOT_GIVEN = object()


def read_flags(argv: Sequence[str]) -> dict[str, Any]:
    """The options that a command line gives, ``recipe`` among them; nothing for flags that are not there.

    They and the recipe are checked as far as each value can be alone.

    Raises:
        UsageError: an unknown flag, or a value of the wrong type.
        RecipeError: a recipe that cannot be read, an unknown option in it, or a value that no run can use.
        SystemExit: argparse's, for ``--help``.
    """
    parser = flag_parser()
    parser.add_argument("--recipe", help="YAML file with any of these options; flags win over it.")
    for action in parser._actions:
        if action.dest in WITHOUT_EFFECT:
            action.help = argparse.SUPPRESS
    names = {action.dest for action in parser._actions} - {"help"}
    namespace, unknown = parser.parse_known_args(argv, argparse.Namespace(**dict.fromkeys(names, _NOT_GIVEN)))
    if unknown:
        raise UsageError(unknown_flag(unknown[0], [f"--{name}" for name in names]))
    given = {name: value for name, value in vars(namespace).items() if value is not _NOT_GIVEN}
    check_options(given)
    if "recipe" in given:
        _check_known(read_recipe(given["recipe"]), parser, f"{given['recipe']}: ")
    return given


def checked_options(options: Mapping[str, Any], parser: argparse.ArgumentParser, where: str = "") -> dict[str, Any]:
    """Options by today's names, each of which must be known, and have a value that a run can use.

    Raises:
        RecipeError: names the option, after ``where``.
    """
    options = {renamed_option(str(key), RENAMED, where): value for key, value in options.items()}
    _check_known(options, parser, where)
    return options


def _check_known(options: Mapping[str, Any], parser: argparse.ArgumentParser, where: str) -> None:
    known = {action.dest for action in parser._actions} - {"help", "recipe"}
    for key in options:
        if key not in known | RENAMED.keys():
            raise RecipeError(f"{where}unknown option {key!r}{did_you_mean(key, known)}")
    check_options(options)


def flag_parser() -> argparse.ArgumentParser:
    """A parser of all options. It knows their names, types and help; it makes no instances of their classes."""
    try:
        kinds = [declared("sp_hf.run.arguments", name) for name in CLASSES]
        return run_parser(kinds, _dataclass_parser())
    except DeclarationError:  # a transformers that is built otherwise: seconds instead of a quarter of one
        from transformers import HfArgumentParser

        from . import arguments

        return run_parser([getattr(arguments, name) for name in CLASSES], HfArgumentParser)


def run_parser(kinds: Sequence[type], base: type[argparse.ArgumentParser], **kwargs: Any) -> Any:
    """transformers' parser of dataclasses, with our spelling of flags.

    Args:
        kinds: the dataclasses.
        base: ``HfArgumentParser``.
        kwargs: of ``ArgumentParser``.
    """
    parser = type("RunParser", (FlagParser, base), {})
    return parser(kinds, prog="sp-hf pretrain", renamed=RENAMED, **kwargs)


@functools.cache
def _dataclass_parser() -> type[argparse.ArgumentParser]:
    """``HfArgumentParser`` of the installed transformers, without importing that."""
    package = importlib.util.find_spec("transformers")
    if package is None or package.origin is None:
        raise DeclarationError("transformers is not installed")
    file = Path(package.origin).with_name("hf_argparser.py")
    spec = importlib.util.spec_from_file_location("sp_hf.run._hf_argparser", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise DeclarationError(f"there is no {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.HfArgumentParser

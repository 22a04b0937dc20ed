"""Names in a run's options, and values of objectives, looked up without importing PyTorch.

What this lets pass is checked again, and in full, where it is used.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

from ..data.sources import check_place
from ..declared import DeclarationError, declared
from ..encoders.names import check_name
from ..errors import InputError, PluginError
from ..given import was_given
from .recipe_file import as_list, named_entry, read_recipe

_OF_EVERY_ENTRY = ("name", "package")


def check_names(options: Mapping[str, Any]) -> None:
    """Refuse names that stand for nothing.

    Args:
        options: of a command line; they win over those of the ``recipe`` among them.

    Raises:
        InputError, NotFoundError: see :func:`~sp_hf.encoders.names.check_name`.
        DatasetLoadError: a path that is not there.
        RecipeError, InputError: an objective without a name, an unknown one, or one with an unknown option, or with a
            value out of its range.
    """
    described = read_recipe(options["recipe"]) if "recipe" in options else {}
    chosen = {**described, **options}
    if isinstance(chosen.get("encoder"), str):
        check_name(chosen["encoder"])
    for name in ("dataset", "validation_dataset"):
        if isinstance(chosen.get(name), str) and not was_given(chosen[name]):
            check_place(chosen[name])
    check_objectives(as_list(chosen.get("objectives") or []), as_list(described.get("objectives") or []))


def check_objectives(chosen: list[Any], described: list[Any]) -> None:
    """Refuse unknown objectives, and unknown options and values, some of which a recipe may have ``described``."""
    if "sp_hf.objectives" in sys.modules:
        return  # some may have been registered, and a check in full costs nothing now
    try:
        kinds = declared("sp_hf.objectives", "_OWN")
    except DeclarationError:
        return
    entries = {entry["name"]: entry for entry in map(named_entry, described)}
    offered = {point.name for point in entry_points(group="sp_hf.objectives")}
    for item in chosen:
        entry = named_entry(item)
        name = entry["name"]
        if name in kinds:
            _check_options({**entries.get(name, {}), **entry}, kinds[name])
        elif name not in offered and "package" not in entries.get(name, {}) | entry:
            raise PluginError(
                f"unknown objective {name!r}{_hint(name, kinds)}; known: {', '.join([*kinds, *sorted(offered)])}."
                " One of another package is known once that is installed."
            )


def _check_options(entry: Mapping[str, Any], kind: Any) -> None:
    known = [field.name for field in dataclasses.fields(kind.config_class)]
    for option in [name for name in entry if name not in (*known, *_OF_EVERY_ENTRY)]:
        raise InputError(
            f"objective {entry['name']!r} has no option {option!r}{_hint(option, known)};"
            f" its options: {', '.join(known)}."
        )
    options = {name: value for name, value in entry.items() if name in known}
    try:
        config = kind.config_class(**_completed(kind.config_class, options))
        _read("validation", "check_types")(config)
        _read("validation", "check_positive")("weight", config.weight)
    except InputError as error:
        raise InputError(f"objective {entry['name']!r}: {error}") from error
    except (DeclarationError, AttributeError, NameError, TypeError):
        return  # needs more than was read; checked in full later


def _completed(config_class: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    return _read("view_defaults", "complete_views")(config_class, options)


def _read(module: str, name: str) -> Any:
    return declared(f"sp_hf.objectives.{module}", name)


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""

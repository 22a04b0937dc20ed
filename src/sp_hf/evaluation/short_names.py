"""Names of models that fit into tables.

Models are called by where they come from unless they are given a name, and untrained ones by which model they are the
floor of: up to a hundred characters, of which the end tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LONGEST = 28  # characters
_LONG, _SHORT = "random initialisation", "random"


def short_names(names: Iterable[str], longest: int = LONGEST) -> dict[str, str]:
    """Names to names of at most ``longest`` characters, all different."""
    shortened: dict[str, str] = {}
    for name in names:
        short, number = _shortened(name, longest), 1
        while short in shortened.values():
            number += 1
            mark = f" ({number})"
            short = _shortened(name, longest - len(mark)) + mark
        shortened[name] = short
    return shortened


def names_in_tables(results: Mapping[str, Any]) -> dict[str, str]:
    """Of the models of ``results.json``."""
    return short_names(model["name"] for model in results["models"])


def _shortened(name: str, longest: int) -> str:
    if len(name) <= longest:
        return name
    if name.startswith(_LONG + " "):
        return f"{_SHORT} {_shortened(name.removeprefix(_LONG + ' '), longest - len(_SHORT) - 1)}"
    return "…" + name[1 - longest :]

"""Which class of one dataset stands for which class of another.

By name (letter case, spaces, hyphens and underscores do not count; of a name with synonyms, such as ImageNet's "tench,
Tinca tinca", any of them that no other class has), or by a JSON file of an object whose keys are names
of the one and whose values are names of the other, or null for a class that has no counterpart.

Letters: A classes to map, B classes to map to.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...errors import DataError

_SHOWN = 8


class MappingError(DataError):
    """A mapping that cannot be read, or that maps nothing."""


def read_mapping(path: str | Path) -> dict[str, str | None]:
    """A mapping from a JSON file.

    Raises:
        MappingError: no such file, or not an object of texts (or null) by name.
    """
    try:
        mapping = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MappingError(f"cannot read the mapping {path}: {error}") from error
    if not isinstance(mapping, dict) or not all(isinstance(value, str | None) for value in mapping.values()):
        raise MappingError(f'the mapping {path} must be one JSON object such as {{"tabby": "cat", "tree": null}}')
    return mapping


def map_names(
    names: Sequence[str], targets: Sequence[str], mapping: Mapping[str, str | None] | None = None, what: str = "classes"
) -> Tensor:
    """The counterpart of every name.

    Args:
        names: A names to map.
        targets: B names to map to.
        mapping: from names to targets; names that it lacks have no counterpart. ``None``: equal names.
        what: whose names they are, for errors.

    Returns:
        int64 [A], places in ``targets``, -1 for no counterpart.

    Raises:
        MappingError: the mapping holds a name that there is not, or not one class has a counterpart.
    """
    places = _places(targets)
    if mapping is not None:
        _check_known(mapping, names, f"{what}: the mapping's keys")
        _check_known([value for value in mapping.values() if value is not None], targets, f"{what}: what it maps to")
        plain = {_plain(key): None if value is None else _plain(value) for key, value in mapping.items()}
        counterparts = [places.get(plain.get(_plain(name)) or "", -1) for name in names]
    else:
        counterparts = [places.get(_plain(name), -1) for name in names]
    if all(place < 0 for place in counterparts):
        raise MappingError(
            f"{what}: not one of {_some(names)} has a counterpart in {_some(targets)}; give a mapping of the names"
        )
    return torch.tensor(counterparts, dtype=torch.int64)


def _places(targets: Sequence[str]) -> dict[str, int]:
    """Where each name is, and each synonym that only one has."""
    synonyms = [{_plain(synonym) for synonym in target.split(",")} for target in targets]
    shared = Counter(synonym for one in synonyms for synonym in one)
    places = {name: place for place, one in enumerate(synonyms) for name in one if shared[name] == 1}
    return places | {_plain(target): place for place, target in enumerate(targets)}


def class_names(labels: Tensor, names: Sequence[str] | None) -> list[str]:
    """Names of labels, their numbers where there are no names.

    Args:
        labels: int64 [A].
        names: by label, or ``None``.
    """
    return [str(label) if names is None else names[label] for label in labels.tolist()]


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _check_known(given: Sequence[str] | Mapping[str, object], known: Sequence[str], what: str) -> None:
    plain = {_plain(name) for name in known}
    unknown = [name for name in given if _plain(name) not in plain]
    if unknown:
        raise MappingError(f"{what}: there is no class {_some(unknown)}; the classes are {_some(known)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", ... ({len(names)})" if len(names) > _SHOWN else "")

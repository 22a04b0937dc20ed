"""A recipe's YAML file: read with the safe loader, no key twice, over the file that it extends; written whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import RecipeError
from ..optimisation.learning_rate import without_other_rate


class _EachKeyOnce(yaml.SafeLoader):
    """YAML's own loaders keep the last of several values for a key, in silence."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # as it is written: what "<<" brings in may be overridden
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in keys:
                line = key.start_mark.line + 1
                raise yaml.composer.ComposerError(problem=f"{key.value!r} stands there a second time, in line {line}")
            keys.add((key.tag, key.value))
        return node


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        RecipeError: no such file, not text, not YAML, a key twice, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        neighbours = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise RecipeError(f"no recipe at {path}." + (f" There are: {', '.join(neighbours)}." if neighbours else ""))
    try:
        recipe = yaml.load(path.read_text(encoding="utf-8"), _EachKeyOnce)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not text in UTF-8 (byte {error.start}); a recipe is a YAML file") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise RecipeError(f"{path} must hold a mapping of options, not {type(recipe).__name__}.")
    odd = [key for key in recipe if not isinstance(key, str)]
    if odd:
        raise RecipeError(f"{path}: {odd[0]!r} is not the name of an option")
    return recipe


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
    recipe = merged(without_other_rate(base, changes), changes)
    if changes.get("objectives") is not None:
        described = {entry["name"]: entry for entry in map(named_entry, as_list(base.get("objectives") or []))}
        chosen = map(named_entry, as_list(changes["objectives"]))
        recipe["objectives"] = [_merged_entry(described.get(entry["name"], {}), entry) for entry in chosen]
    return recipe


def _merged_entry(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """As :func:`merged`; ``null`` within views stays, as it takes a part of the objective's default away."""
    described = {n: v for n, v in changes.items() if isinstance(v, dict) and isinstance(base.get(n), dict)}
    return {**merged(base, changes), **{name: {**base[name], **value} for name, value in described.items()}}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``; mappings within are merged too, ``null`` takes an option away."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def as_list(objectives: Any) -> list[Any]:
    """What may be one or several, as several."""
    return list(objectives) if isinstance(objectives, (list, tuple)) else [objectives]


def named_entry(item: Any) -> dict[str, Any]:
    """The mapping that an objective's name (hyphens or underscores), ``name=weight`` or mapping stands for.

    Raises:
        RecipeError: a mapping without a name, or a weight that is no number.
    """
    if isinstance(item, Mapping):
        if "name" not in item:
            raise RecipeError(f"an objective needs a name: {item}")
        return {**item, "name": str(item["name"]).replace("-", "_")}
    name, equals, weight = str(item).partition("=")
    name = name.replace("-", "_")
    if not equals:
        return {"name": name}
    try:
        return {"name": name, "weight": float(weight)}
    except ValueError:
        raise RecipeError(f"objective {item!r}: the weight {weight!r} is not a number.") from None


def write_recipe(path: Path, options: dict[str, Any]) -> None:
    """A run's options as a recipe."""
    path.write_text(yaml.safe_dump(options, sort_keys=False, allow_unicode=True), encoding="utf-8")

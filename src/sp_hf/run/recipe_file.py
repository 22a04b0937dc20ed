"""A recipe's YAML file: read with the safe loader, no key twice; written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..errors import RecipeError


class _EachKeyOnce(yaml.SafeLoader):
    """YAML's own loaders keep the last of several values for a key, in silence."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)  # as it is written: what "<<" brings in may be overridden
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise yaml.composer.ComposerError(problem=f"{key.value!r} stands there a second time, in line {line}")
            seen.add((key.tag, key.value))
        return node


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        RecipeError: no such file, not text, not YAML, a key twice, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        here = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise RecipeError(f"no recipe at {path}." + (f" There are: {', '.join(here)}." if here else ""))
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


def write_recipe(path: Path, options: dict[str, Any]) -> None:
    """A run's options as a recipe."""
    path.write_text(yaml.safe_dump(options, sort_keys=False, allow_unicode=True), encoding="utf-8")

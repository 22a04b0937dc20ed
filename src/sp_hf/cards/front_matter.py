"""Reads the YAML at the head of a card, and changes one field of it: all else stays byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import yaml_dump

from ..errors import InputError


def split_card(text: str) -> tuple[str, str]:
    """The YAML of a card, "" if it has none, and what comes after its second ``---``."""
    block = REGEX_YAML_BLOCK.search(text)
    return (block.group(2), text[block.end() :]) if block else ("", text)


def read_front_matter(text: str) -> dict[str, Any]:
    """The fields of a card.

    Raises:
        InputError: not YAML, or no fields.
    """
    try:
        fields = yaml.safe_load(split_card(text)[0])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(f"its metadata is not YAML{f' (line {mark.line + 2})' if mark else ''}") from error
    if not isinstance(fields, (Mapping, NoneType)):
        raise InputError(f"its metadata is {type(fields).__name__}, not fields with values")
    return dict(fields or {})


def with_field(text: str, name: str, value: Any) -> str:
    """A card with one field of its YAML set, in its place or at the end.

    Args:
        text: the card, lines ending in ``\\n``.
        name, value: of the field.

    Raises:
        InputError: see :func:`read_front_matter`.
    """
    fields = {**read_front_matter(text), name: value}
    block, rest = split_card(text)
    changed = _replace(block, name, yaml_dump({name: value}, sort_keys=False))
    if not _reads_as(changed, fields):  # written in braces, say, or with an anchor in what is replaced
        changed = yaml_dump(fields, sort_keys=False)
    return f"---\n{changed.rstrip()}\n---\n{rest}"


def _replace(block: str, name: str, written: str) -> str:
    """The lines of a field of the YAML replaced by others."""
    lines = block.rstrip("\n").split("\n") if block.strip() else []
    root = yaml.compose(block, Loader=yaml.SafeLoader)
    matches = [
        (key.start_mark.line, value.end_mark.line, value.end_mark.column)
        for key, value in (root.value if root is not None else [])
        if key.value == name
    ]
    if not matches:
        return "\n".join([*lines, written])
    start, end, column = matches[0]
    end += column > 0
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1  # the next field's comment
    return "\n".join([*lines[:start], written.rstrip("\n"), *lines[end:]])


def _reads_as(block: str, fields: Mapping[str, Any]) -> bool:
    try:
        return yaml.safe_load(block) == fields
    except yaml.YAMLError:
        return False

"""The quick look at objectives, which imports no PyTorch, says what the full check says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from sp_hf.declared import declared
from sp_hf.errors import InputError
from sp_hf.objectives import OBJECTIVES, parse_entry
from sp_hf.run import names

KINDS = declared("sp_hf.objectives", "_OWN")


def said(check: Callable[[], Any]) -> str | None:
    """What is refused, if it is."""
    try:
        check()
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", KINDS)
def test_each_value_is_refused_or_taken_as_in_full(name: str) -> None:
    refused = 0
    for field in dataclasses.fields(OBJECTIVES[name].config_class):
        for value in (-1, 0, 1.5, "many", [1, 0, 3], True, {"size": 0}, {"count": 2, "area": [0.9, 0.1]}, {"sise": 8}):
            entry = {"name": name, field.name: value}
            in_full = said(lambda entry=entry: parse_entry(entry))
            assert said(lambda entry=entry: names._check_options(entry, KINDS[name])) == in_full, entry
            refused += in_full is not None
    assert refused > 5


def test_what_cannot_be_read_is_left_to_the_full_check() -> None:
    @dataclasses.dataclass
    class Config:
        weight: float = 1.0

        def __post_init__(self) -> None:
            raise NameError("of something that was not read")

    class Kind:
        config_class = Config

    names._check_options({"name": "mine"}, Kind)

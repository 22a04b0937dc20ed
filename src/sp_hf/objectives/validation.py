"""Checks of an objective's options: each error names the option, the value and what is allowed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from typing import Any

from ..errors import InputError
from ..views.sampler import Views
from ..views.spec import ViewSpec


def check_choice(option: str, value: Any, choices: Collection[Any]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise InputError(f"{option} is {value!r}; choose one of {', '.join(map(repr, choices))}.")


def check_at_least(option: str, value: float, least: float) -> None:
    """Raise ``ValueError`` unless ``value >= least``."""
    _check_number(option, value)
    if not value >= least:
        raise InputError(f"{option} is {value}; it must be at least {least}.")


def check_count(option: str, value: int, least: int) -> None:
    """Raise ``ValueError`` unless ``value`` is a whole number and ``value >= least``."""
    check_at_least(option, value, least)
    if not isinstance(value, int):
        raise InputError(f"{option} is {value}; it must be a whole number of at least {least}.")


def check_types(config: Any) -> None:
    """Raise ``ValueError`` unless options declared as whole numbers and as true or false are that."""
    for field in dataclasses.fields(config):
        value, declared = getattr(config, field.name), str(getattr(field.type, "__name__", field.type))
        if value is None:
            continue
        if declared in ("int", "int | None") and (isinstance(value, bool) or not isinstance(value, int)):
            raise InputError(f"{field.name} is {value!r}; it must be a whole number.")
        if declared == "bool" and not isinstance(value, bool):
            raise InputError(f"{field.name} is {value!r}; it must be true or false.")


def check_positive(option: str, value: float) -> None:
    """Raise ``ValueError`` unless ``value > 0``."""
    _check_number(option, value)
    if not value > 0:
        raise InputError(f"{option} is {value}; it must be greater than 0.")


def check_fraction(option: str, value: float, *, closed: bool = True) -> None:
    """Raise ``ValueError`` unless ``0 <= value <= 1``, or ``0 < value < 1`` where not ``closed``."""
    _check_number(option, value)
    if not (0 <= value <= 1 if closed else 0 < value < 1):
        raise InputError(f"{option} is {value}; it must be {'from 0 to 1' if closed else 'above 0 and below 1'}.")


def check_decoder(width: int, depth: int, heads: int) -> None:
    """Raise ``ValueError`` unless these are the sizes of a transformer with sine-cosine positions."""
    check_at_least("decoder_depth", depth, 1)
    check_at_least("decoder_heads", heads, 1)
    check_at_least("decoder_width", width, 4)
    if width % heads or width % 4:
        raise InputError(f"decoder_width is {width}; it must be divisible by 4 and by decoder_heads, {heads}.")


def check_two_views(objective: str, views: ViewSpec | Views | str) -> None:
    """Raise ``ValueError`` unless a view set has two views; of a reference nothing is known until it is drawn."""
    if isinstance(views, str):
        return
    count = views.count if isinstance(views, ViewSpec) else views.pixels.shape[1]
    if count != 2:
        raise InputError(f"{objective} compares 2 views, but its view set has {count}; set its count to 2.")


def check_momentum(value: Any) -> tuple[float, float]:
    """An EMA teacher's (start, end), both from 0 to 1."""
    momentum = pair("momentum", value)
    for end in momentum:
        check_fraction("momentum", end)
    return momentum


def check_heads(option: str, heads: int, width: int) -> None:
    """Raise ``ValueError`` unless so many attention heads divide a width."""
    if width % heads:
        raise InputError(f"{option} is {heads}; it must divide the width of the attention, {width}.")


def pair(option: str, value: Any) -> tuple[float, float]:
    """``value`` as a (start, end) tuple of two numbers; JSON gives lists."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InputError(f"{option} is {value!r}; give two numbers, [start, end].")
    for number in value:
        _check_number(option, number)
    return float(value[0]), float(value[1])


def _check_number(option: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{option} is {value!r}; it must be a number.")
    if not math.isfinite(value):
        raise InputError(f"{option} is {value}; it must be finite.")

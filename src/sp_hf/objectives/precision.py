"""Losses in float32, whatever the precision of the network before them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def in_float32(function: Callable[..., Result]) -> Callable[..., Result]:
    """Decorator: run outside autocast, with float16 and bfloat16 arguments widened to float32 (float64 stays)."""

    @functools.wraps(function)
    def widened(*args: Any, **kwargs: Any) -> Result:
        device = next(x.device.type for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        with torch.autocast(device, enabled=False):
            return function(*map(_widen, args), **{name: _widen(x) for name, x in kwargs.items()})

    return widened


def _widen(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x

"""Learning rates that papers state for a reference batch.

    linear   rate = base * batch / 256              (Goyal et al. 2017, arXiv:1706.02677; DINO, MoCo v3, MAE, DropPos)
    sqrt     rate = base * sqrt(batch / 1024)       (DINOv2, arXiv:2304.07193: its code's ``sqrt_wrt_1024``)

``batch`` counts the images of one optimizer step: a device's, times processes, times gradient accumulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import RecipeError

REFERENCE_BATCH = {"linear": 256, "sqrt": 1024}
"""Images a step at which the base rate is the rate."""


def scaled_learning_rate(base: float, batch: int, scaling: str = "linear") -> float:
    """The learning rate for ``batch`` images a step.

    Args:
        base: for :data:`REFERENCE_BATCH` images.
        batch: images of one optimizer step, over all processes and accumulated forwards.
        scaling: ``"linear"`` or ``"sqrt"``.

    Raises:
        ValueError: a base that is not above 0, or an unknown scaling.
    """
    if scaling not in REFERENCE_BATCH:
        raise RecipeError(f"--learning_rate_scaling {scaling!r} is unknown: {' or '.join(REFERENCE_BATCH)}.")
    if not base > 0:
        raise RecipeError(f"--base_learning_rate must be above 0, not {base:g}.")
    ratio = batch / REFERENCE_BATCH[scaling]
    return base * (math.sqrt(ratio) if scaling == "sqrt" else ratio)


def describe_learning_rate(rate: float, base: float | None, batch: int, scaling: str) -> str:
    """One line for the start of a run."""
    if base is None:
        return f"learning rate {rate:g}, {batch} images a step"
    ratio = f"{batch} / {REFERENCE_BATCH[scaling]}"
    return f"learning rate {rate:g} = {base:g} x {f'sqrt({ratio})' if scaling == 'sqrt' else ratio} images a step"


def without_other_rate(recipe: Mapping[str, Any], given: Iterable[str]) -> dict[str, Any]:
    """A recipe without the kind of learning rate that stronger options replace by the other kind.

    Args:
        recipe: options that are overridden.
        given: names of the options that override.
    """
    given = set(given)
    replaced = set()
    if "learning_rate" in given:
        replaced |= {"base_learning_rate", "learning_rate_scaling"}
    if "base_learning_rate" in given:
        replaced |= {"learning_rate"}
    return {name: value for name, value in recipe.items() if name not in replaced - given}

"""What a run writes down of things that Python code handed over as objects: a recipe can name them, not hold them."""

from __future__ import annotations

GIVEN = "object: "
"""What such names begin with."""


def was_given(name: object) -> bool:
    """Whether a recipe's value stands for an object, which only the Python code of its run had."""
    return isinstance(name, str) and name.startswith(GIVEN)

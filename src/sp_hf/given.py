"""How a recipe names objects that Python code handed over, which it cannot hold."""

from __future__ import annotations

GIVEN = "object: "
"""What such names begin with."""


def was_given(name: object) -> bool:
    """Whether a recipe's value stands for an object, which only the Python code of its run had."""
    return isinstance(name, str) and name.startswith(GIVEN)

"""Which sizes of views an encoder takes, and what the one that it cannot take should be instead."""

from __future__ import annotations

from ..errors import InputError
from .facts import Dimensions, ModelFacts
from .shapes import ViewError

_STEPS = 16  # of a patch, that a size is looked for within


def grid_of(dimensions: Dimensions, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of patches of a view.

    Raises:
        ValueError: the patch size does not divide it.
    """
    patch = dimensions.patch_size[0]
    for size in (height, width):
        if size < patch or size % patch:
            below = max(size // patch, 1) * patch
            raise InputError(
                f"a view of {size} pixels is not divisible into patches of {patch}; use {below} or {below + patch}"
            )
    return height // patch, width // patch


def size_kwargs(facts: ModelFacts, dimensions: Dimensions, name: str, height: int, width: int) -> dict[str, bool]:
    """Arguments of a model's ``forward`` for views of this size: interpolated positions, where it must be asked.

    Args:
        facts, dimensions: the model's.
        name: of the model, for the message.
        height, width: of the view, in pixels.

    Raises:
        ValueError: it cannot take this size.
    """
    native = dimensions.image_size
    if (height, width) == native:
        return {}
    if facts.fixed_size:
        raise InputError(
            f"a view of {height} x {width} pixels: {name} takes {native[0]} x {native[1]} pixels alone; set the size"
            f" of views to {native[0]}"
        )
    if facts.square_positions and native[0] != native[1]:
        raise InputError(
            f"a view of {height} x {width} pixels: the positions of an encoder made for {native[0]} x {native[1]} "
            "cannot be interpolated, only square ones can"
        )
    if facts.shapes is None:
        return {"interpolate_pos_encoding": True} if facts.resizes_on_request else {}
    try:
        return _seen_kwargs(facts, dimensions, height, width)
    except ViewError as error:
        near = " or ".join(str(size) for size in _taken_near(facts, dimensions, height)) or str(native[0])
        raise InputError(
            f"a view of {height} x {width} pixels: {name} cannot take it; use a view size of {near} (its forward said:"
            f" {str(error)[:100]})"
        ) from error


def nearest_size(facts: ModelFacts, dimensions: Dimensions, size: float) -> int:
    """Pixels a side of a view that the encoder takes, as near to ``size`` as can be."""
    patch, native = dimensions.patch_size[0], dimensions.image_size[0]
    if facts.fixed_size:
        return native
    rounded = max(round(size / patch), 1) * patch
    if facts.shapes is None:
        return rounded
    return min(_taken_near(facts, dimensions, rounded), key=lambda taken: abs(taken - size), default=native)


def _seen_kwargs(facts: ModelFacts, dimensions: Dimensions, height: int, width: int) -> dict[str, bool]:
    assert facts.shapes is not None
    look = facts.shapes.look(height, width)
    rows, columns = grid_of(dimensions, height, width)
    expected = {
        None: (dimensions.num_prefix_tokens + rows * columns, dimensions.hidden_size),
        "NCHW": (dimensions.hidden_size, rows, columns),
        "NHWC": (rows, columns, dimensions.hidden_size),
    }[facts.feature_map]
    if look.features[1:] != expected:
        raise ViewError(f"it makes {list(look.features[1:])} of it, not {list(expected)}")
    return dict(look.kwargs)


def _taken_near(facts: ModelFacts, dimensions: Dimensions, size: int) -> list[int]:
    """The next smaller and the next larger size that is taken, where there are such; ``size`` itself, if it is."""
    patch = dimensions.patch_size[0]
    rounded = max(size // patch, 1) * patch
    below = [rounded - step * patch for step in range(_STEPS) if rounded - step * patch >= patch]
    above = [rounded + step * patch for step in range(_STEPS)]
    sides = (_first_taken(facts, dimensions, sizes) for sizes in (below, above))
    return sorted({side for side in sides if side is not None})


def _first_taken(facts: ModelFacts, dimensions: Dimensions, sizes: list[int]) -> int | None:
    for size in sizes:
        try:
            _seen_kwargs(facts, dimensions, size, size)
        except ViewError:
            continue
        return size
    return None

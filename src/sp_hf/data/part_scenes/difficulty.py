"""How hard PartScenes is to learn: what varies from scene to scene besides the arrangement."""

from __future__ import annotations

from typing import NamedTuple

Range = tuple[float, float]


class Difficulty(NamedTuple):
    """What varies, and by how much. Lengths in metres unless said otherwise.

    Args:
        turn, stretch, yaw: widths of the ranges of the object's rotation (radians), logarithmic stretch and yaw.
        place, tilt, growth: widths of the ranges of each piece's own shift, rotation (radians) and relative size.
        metre: the size of a metre of the object, in image widths: the least, and the width of the range.
        wander: ``None``: the object stands on the ground anywhere in view; else how far its middle strays from the
            image's, in image widths to either side.
        painted: each kind of part has a hue of its own.
        staged: the object hangs, without light and outlines, before a flat wall in its own patterns; else it stands in
            a perspective scene with props and occluders.
    """

    turn: float
    stretch: float
    yaw: float
    place: float
    tilt: float
    growth: float
    metre: Range
    wander: float | None
    painted: bool
    staged: bool


_FREE = Difficulty(0.6, 0.3, 1.0, 0.06, 0.3, 0.16, (0.31, 0.13), None, False, False)
DIFFICULTIES: dict[str, Difficulty] = {
    "easy": Difficulty(0.5, 0.3, 0.8, 0.05, 0.2, 0.12, (0.36, 0.12), 0.2, True, True),
    "medium": _FREE._replace(painted=True),
    "hard": _FREE,
}
DEFAULT = "easy"

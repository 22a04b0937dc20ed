"""Which of four ways one part lies from another: left, right, above, below.

Letters: n images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

RELATIONS = ("left", "right", "above", "below")
AMBIGUOUS = 10.0  # degrees from a diagonal, within which a relation is neither


def relation_of(dx: float, dy: float) -> int:
    """Index in :data:`RELATIONS` of a target at (dx, dy) from its reference, y downwards; -1 near a diagonal."""
    angle = math.degrees(math.atan2(dy, dx))  # 0 right, 90 below
    nearest = round(angle / 90) % 4
    if abs(angle - 90 * round(angle / 90)) > 45 - AMBIGUOUS or (dx == 0 and dy == 0):
        return -1
    return RELATIONS.index(("right", "below", "left", "above")[nearest])


def relation_of_parts(parts: Sequence[Mapping[str, Any]], target: int, reference: int) -> int:
    """Of a row's parts (``{"part": id, "box": [cx, cy, w, h]}``); -1 where one is not there, or there twice."""
    places = {wanted: [part["box"][:2] for part in parts if part["part"] == wanted] for wanted in (target, reference)}
    if any(len(boxes) != 1 for boxes in places.values()):
        return -1
    (x, y), (rx, ry) = places[target][0], places[reference][0]
    return relation_of(x - rx, y - ry)

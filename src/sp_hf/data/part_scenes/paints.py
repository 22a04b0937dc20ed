"""PartScenes' paints, where each kind of part has a colour of its own: eight hues, all equally bright.

The hues are dealt so that colours tell low-level cues little of where a crop lies (``sp-hf evaluate MODEL --tasks
shortcut-audit --dataset part-scenes --shortcut_audit_crop_size 32`` measures it): the best of a hundred random deals.
"""

from __future__ import annotations

import numpy as np

from .backgrounds import colours
from .objects import PART_EXTENTS, PART_ORDER
from .raster import signed_distance

HUES = {  # of a full circle
    "block": 5 / 8,
    "beam": 4 / 8,
    "post": 3 / 8,
    "triangle": 6 / 8,
    "dome": 0 / 8,
    "ring": 1 / 8,
    "star": 7 / 8,
    "wheel": 2 / 8,
}
SATURATION = 0.42
TONES = (0.5, 0.3)  # brightness (mean of the channels) of the two colours of a texture


def _paints() -> np.ndarray:
    hues = np.array([HUES[part] for part in PART_ORDER])
    pure = colours(np.stack([hues, np.full(len(hues), SATURATION), np.ones(len(hues))], 1), (0, 1), (0, 1))
    unit = pure / pure.mean(1, keepdims=True)  # [P, 3]
    return np.minimum(unit[:, None] * np.array(TONES)[:, None], 1).astype(np.float32)


def _area(part: str) -> float:
    """Of a piece, in square metres."""
    across, up = (np.linspace(-half, half, 64) for half in PART_EXTENTS[part])
    inside = signed_distance(part, across[None], up[:, None]) < 0
    return float(inside.mean() * 4 * np.prod(PART_EXTENTS[part]))


PAINTS = _paints()  # [P, 2, 3], rows in PART_ORDER: the two colours of each piece
# Of all pixels of an object.
MEAN = np.average(PAINTS, axis=0, weights=[_area(part) for part in PART_ORDER]).astype(np.float32)  # [2, 3]

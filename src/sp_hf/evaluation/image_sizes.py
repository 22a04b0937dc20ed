"""How many pixels images have of their own: L = 5th percentile over images of sqrt(width x height)."""

from __future__ import annotations

import numpy as np

from ..data.annotations import upright_size
from ..data.canvas import UnreadableImage
from .features import ImageSample

_PERCENTILE = 5


def own_side(sample: ImageSample) -> float:
    """L in px; infinite where not one image can be read, which is told when they are decoded."""
    sides = []
    for row in sample.rows:
        try:
            width, height = upright_size(row[sample.images.image_column])
        except UnreadableImage:
            continue
        sides.append((width * height) ** 0.5)
    return float(np.percentile(sides, _PERCENTILE)) if sides else np.inf

"""PartScenes' easy surroundings: a flat wall of the material that the parts are made of.

The wall looks the same everywhere, and as bright and as contrasted as the parts: it carries one of their patterns at
their scale, in the mean of their two tones (`paints`). So neither a place on it nor an edge of the object tells
low-level cues of crops where they are. What stands out is the colour of each part.

S image size in pixels.
"""

from __future__ import annotations

import numpy as np

from .backgrounds import NEW_WALLS, Backdrop, Camera, pixel_centres, wall_pattern
from .paints import MEAN
from .raster import Material, mix, pattern_frequency

BEHIND = 1.5  # times the object's distance: where the wall stands


def paint_stage(camera: Camera, distance: float, material: Material, new: bool, rng: np.random.Generator) -> Backdrop:
    """A wall across the line of sight.

    Args:
        distance: of the object, in metres; the wall stands behind it, its pattern has the size of the object's.
        material: one of its textures is the wall's.
        new: a regular pattern as the standard variant never has.
    """
    centres = pixel_centres(camera.size)
    along, up = (centres[None] - 0.5) * distance, (0.5 - centres[:, None]) * distance  # [1, S], [S, 1] metres
    pick, frequency, angle, right, high = rng.random(5).tolist()
    footprint = distance / camera.size
    if new:
        kind = NEW_WALLS[int(pick * len(NEW_WALLS))]
        every = np.zeros_like(along + up)
        weight = 0.5 + 0.5 * wall_pattern(kind, rng, along + every, up + every, every[0] + footprint)
    else:
        texture = material.textures[int(pick * len(material.textures))]
        weight = texture(along + 4 * right, up + 4 * high, pattern_frequency(frequency), 0.6 * angle - 0.3, footprint)
    weight = np.broadcast_to(weight, (camera.size, camera.size))
    depth = np.full((camera.size, camera.size), BEHIND * distance, np.float32)
    return Backdrop(mix(MEAN[0], MEAN[1], weight), depth, BEHIND * distance)

"""PartScenes' easy surroundings: a flat wall without perspective, seen through a veil of one colour.

The standard wall is mottled with noise of equal contrast at every octave (1/f), the same everywhere: neither a place on
it nor the size of a view of it can be told from how it looks. Its mean and its contrast, in brightness and in colour,
are about those of the painted parts (`paints`), so that an edge of the object does not tell either, on
which side of it one looks: low-level cues of crops say little of where they are.

S image size in pixels.
"""

from __future__ import annotations

import numpy as np

from .backgrounds import NEW_WALLS, Backdrop, Camera, colour, pixel_centres, wall_pattern
from .raster import noise

OCTAVES = (4.0, 8.0, 16.0, 32.0, 64.0)  # noise cells along a side of the image
MEAN, BRIGHTNESS, COLOUR = 0.38, 0.2, 0.36  # of the mottle: its mean, and the contrasts of an octave
CLEAREST = (0.25, 1.0)  # what is left of the contrast under the veil, log-uniform
VEIL = (0.1, 0.7)  # its channels
BEHIND = 1.5  # times the object's distance: where the wall stands


def veil(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a veil of one colour over a planar picture [3, S, S], in place: less contrast, and a cast."""
    clear = CLEAREST[0] * (CLEAREST[1] / CLEAREST[0]) ** rng.random()
    shade = rng.uniform(*VEIL, (3, 1, 1)).astype(np.float32)
    image += (1 - clear) * (shade - image)


def paint_stage(camera: Camera, distance: float, new: bool, rng: np.random.Generator) -> Backdrop:
    """A wall across the line of sight.

    Args:
        distance: of the wall, in metres.
        new: a regular pattern in two shades, as the standard variant never has.
    """
    image = _pattern(camera, distance, rng) if new else _mottle(camera.size, rng)
    depth = np.full((camera.size, camera.size), distance, np.float32)
    return Backdrop(image, depth, distance)


def _mottle(size: int, rng: np.random.Generator) -> np.ndarray:
    """Planar [3, S, S]: a layer of noise of its own in each channel and one that all share."""
    centres = pixel_centres(size)
    layers = np.zeros((4, size, size), np.float32)
    for layer, shifts in zip(layers, (rng.random((4, len(OCTAVES), 2)) * 32).tolist(), strict=True):
        for cells, (right, down) in zip(OCTAVES, shifts, strict=True):
            layer += noise(centres * cells + right, centres[:, None] * cells + down) - 0.5
    return MEAN + BRIGHTNESS * layers[3] + COLOUR * layers[:3]


def _pattern(camera: Camera, distance: float, rng: np.random.Generator) -> np.ndarray:
    """Planar [3, S, S]."""
    centres = pixel_centres(camera.size)
    up = camera.height - (centres[:, None] - camera.horizon) * np.full_like(centres, distance)  # [S, S] metres
    kind = NEW_WALLS[int(rng.random() * len(NEW_WALLS))]
    footprint = np.full_like(centres, distance / camera.size)
    shade = 1 + 0.2 * wall_pattern(kind, rng, (centres - 0.5) * distance, up, footprint)
    return (colour(rng, (0.1, 0.6), (0.3, 0.7))[:, None, None] * shade).astype(np.float32)

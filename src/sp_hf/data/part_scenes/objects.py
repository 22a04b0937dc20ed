"""PartScenes' vocabulary: the parts, and the classes as arrangements of the same parts.

Every object, of every class, is built from the same nine pieces: eight part shapes, the wheel twice, always with the
same sizes and the same upright orientation. A class says only *where* each piece stands. So the parts present, their
areas, colours and textures carry no information about the class; their arrangement carries all of it.

A fine-grained class is a finer variation within a class: the same layout with two of the small pieces (ring, star,
wheels) exchanged. Mirroring never changes a class or a fine class (`arrangement_distance` measures this).

Units: the object frame. x to the right, y up, the ground at y = 0; an object is about 2 units tall or wide, and one
unit is one metre in the scene. P parts in PART_ORDER.
"""

from __future__ import annotations

import itertools

import numpy as np

# name -> half width and half height of the part's bounding box. The part id in a segmentation is 1 + its position here.
PART_EXTENTS: dict[str, tuple[float, float]] = {
    "block": (0.34, 0.34),
    "beam": (0.50, 0.10),
    "post": (0.10, 0.46),
    "triangle": (0.42, 0.28),
    "dome": (0.38, 0.19),
    "ring": (0.20, 0.20),
    "star": (0.24, 0.24),
    "wheel": (0.21, 0.21),
}
PARTS: tuple[str, ...] = tuple(PART_EXTENTS)
# The nine pieces of every object; the order of the rows of every array that has one row a piece.
PART_ORDER: tuple[str, ...] = ("block", "beam", "post", "triangle", "dome", "ring", "star", "wheel", "wheel")

# Centre of each piece's bounding box, rows in PART_ORDER.
LAYOUTS: dict[str, tuple[tuple[float, float], ...]] = {
    #          block         beam          post          triangle      dome          ring          star          wheels
    "wagon": ((-0.30, 0.96), (0.00, 0.52), (-0.74, 1.08), (0.46, 0.90), (-0.30, 1.49), (0.46, 1.38), (0.46, 0.24),
              (-0.46, 0.21), (0.01, 0.21)),
    "totem": ((0.00, 0.34), (0.00, 1.16), (-0.44, 0.46), (0.00, 1.96), (0.00, 0.87), (0.54, 0.20), (0.56, 0.64),
              (-0.29, 1.47), (0.29, 1.47)),
    "balance": ((-0.48, 0.72), (0.00, 1.58), (0.00, 1.02), (0.00, 0.28), (0.49, 0.89), (0.40, 1.28), (0.00, 1.92),
                (-0.40, 1.27), (0.49, 0.49)),
    "robot": ((0.00, 0.76), (0.00, 1.20), (0.50, 0.64), (0.00, 1.96), (0.00, 1.49), (-0.55, 0.90), (-0.58, 0.46),
              (-0.19, 0.21), (0.19, 0.21)),
    "house": ((-0.16, 0.54), (0.00, 0.10), (0.30, 0.66), (-0.16, 1.16), (0.80, 0.19), (0.34, 1.32), (0.80, 0.62),
              (-0.72, 0.21), (0.36, 1.73)),
    "ship": ((-0.50, 0.54), (0.00, 0.10), (-0.05, 0.66), (-0.05, 1.40), (0.44, 0.39), (0.56, 1.20), (-0.05, 1.92),
             (-0.62, 1.09), (0.44, 0.79)),
    "flower": ((0.45, 0.34), (0.60, 0.78), (0.00, 0.46), (-0.52, 0.28), (0.00, 1.51), (0.00, 1.12), (0.00, 1.94),
               (-0.41, 1.12), (0.41, 1.12)),
    "gate": ((-0.46, 0.34), (0.00, 1.18), (-0.91, 0.46), (0.46, 0.28), (0.00, 1.47), (-0.44, 0.88), (0.46, 0.84),
             (-0.58, 1.49), (0.58, 1.49)),
    "tractor": ((0.00, 0.90), (0.00, 1.34), (-0.75, 0.88), (0.00, 0.28), (0.75, 0.61), (-0.30, 1.64), (0.30, 1.68),
                (-0.72, 0.21), (0.72, 0.21)),
    "rocket": ((0.00, 1.12), (0.70, 0.68), (-0.44, 1.00), (0.00, 1.74), (0.00, 0.19), (0.00, 0.58), (-0.44, 0.30),
               (0.56, 0.99), (0.56, 1.41)),
}  # fmt: skip
CLASSES: tuple[str, ...] = tuple(LAYOUTS)

# Pieces exchanged in the fine-grained variations, as rows of PART_ORDER: ring 5, star 6, first wheel 7.
FINE_SWAPS: dict[str, tuple[int, int] | None] = {"plain": None, "ring-star": (5, 6), "star-wheel": (6, 7)}
FINE_CLASSES: tuple[str, ...] = tuple(f"{name}/{variation}" for name in CLASSES for variation in FINE_SWAPS)


def arrangement(fine_label: int) -> np.ndarray:
    """Centres of the pieces of a fine class, float64 [P, 2] in the object frame; rows in PART_ORDER."""
    name, variation = FINE_CLASSES[fine_label].split("/")
    centres = np.array(LAYOUTS[name])
    swap = FINE_SWAPS[variation]
    if swap is not None:
        centres[list(swap)] = centres[list(reversed(swap))]
    return centres


def class_of(fine_label: int) -> int:
    """The class that a fine class belongs to."""
    return fine_label // len(FINE_SWAPS)


def jumble(random: np.ndarray) -> np.ndarray:
    """An arrangement of no class: pieces dealt to the cells of a 3x3 grid.

    Args:
        random: [P, 3] uniform numbers in [0, 1).

    Returns:
        float64 [P, 2] centres in the object frame.
    """
    cells = np.argsort(random[:, 0])
    grid = np.stack([(cells % 3 - 1) * 0.62, (cells // 3) * 0.62 + 0.34], axis=1)
    return grid + (random[:, 1:] - 0.5) * 0.24


def arrangement_distance(first: np.ndarray, second: np.ndarray) -> float:
    """How differently two arrangements place their pieces, whichever way round they are seen.

    Root mean square distance between the places of equal pieces, in object units, after centring, over the better of
    the two orders of the wheels and of the two mirror images. 0 for the same arrangement and for its mirror image.
    """
    first, second = first - first.mean(0), second - second.mean(0)
    swapped = [0, 1, 2, 3, 4, 5, 6, 8, 7]
    candidates = (
        second[order] * [side, 1] for side, order in itertools.product((1, -1), (range(len(PART_ORDER)), swapped))
    )
    return min(float(np.sqrt(((first - c) ** 2).sum(1).mean())) for c in candidates)

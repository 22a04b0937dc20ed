"""What else stands in a PartScenes scene: trees, bushes and pillars behind the object, and something in front of it."""

from __future__ import annotations

import numpy as np

from .backgrounds import Backdrop, Camera, colour, pixel_centres
from .raster import noise


def _stamp(
    backdrop: Backdrop, discs: np.ndarray, post: tuple[float, float, float, float] | None, paint: np.ndarray, z: float
) -> tuple[slice, slice, np.ndarray] | None:
    """Paint a union of discs [N, 3] (x, y, radius in image widths) and a post (left, top, right, bottom) at depth z,
    wherever nothing painted so far is nearer.

    Returns its window's rows and columns and where in it pixels are covered, or None when it lies outside the image."""
    size = backdrop.depth.shape[0]
    corners = [np.concatenate([discs[:, :2] - discs[:, 2:], discs[:, :2] + discs[:, 2:]], 1)]
    if post is not None:
        corners.append(np.array([post]))
    boxes = np.concatenate(corners)
    left, top = np.clip(boxes[:, :2].min(0) * size - 1, 0, size).astype(int).tolist()
    right, bottom = np.clip(boxes[:, 2:].max(0) * size + 2, 0, size).astype(int).tolist()
    if right <= left or bottom <= top:
        return None
    centres = pixel_centres(size)
    x, y = centres[left:right], centres[top:bottom, None]
    distance = np.full((bottom - top, right - left), np.inf, np.float32)
    if post is not None:
        across = np.abs(x - (post[0] + post[2]) / 2) - (post[2] - post[0]) / 2
        distance = np.maximum(across, np.abs(y - (post[1] + post[3]) / 2) - (post[3] - post[1]) / 2)
    for disc_x, disc_y, radius in discs.tolist():
        distance = np.minimum(distance, np.sqrt((x - disc_x) ** 2 + (y - disc_y) ** 2) - radius)
    distance = distance * size
    rows, columns = slice(top, bottom), slice(left, right)
    coverage = np.clip(0.5 - distance, 0, 1) * (backdrop.depth[rows, columns] > z)
    shade = (0.75 + 0.5 * noise(x * (4 * z) + 64, y * (4 * z) + 64)) * (1 - 0.4 * np.clip(distance + 1.2, 0, 1))
    window = backdrop.image[:, rows, columns]
    window += coverage * (paint[:, None, None] * shade - window)
    inside = coverage >= 0.5
    backdrop.depth[rows, columns][inside] = z
    return rows, columns, inside


def paint_props(backdrop: Backdrop, camera: Camera, nearest: float, rng: np.random.Generator) -> None:
    """Up to three trees, bushes or pillars on the ground behind the object, smaller the farther they stand."""
    count = int(rng.random() * 4)
    for draws in sorted(rng.random((count, 8)).tolist(), reverse=True):  # far to near
        z = nearest * 1.25 * (max(backdrop.far / (nearest * 1.25), 1.0) ** draws[0])
        paint = colour(rng, (0.2, 0.7), (0.25, 0.8))
        if z > backdrop.far:
            continue
        x, height = draws[1], 0.5 + 1.6 * draws[2]
        ground, top = camera.horizon + camera.height / z, camera.horizon + (camera.height - height) / z
        thick = (0.06 + 0.06 * draws[3]) / z
        crown = (0.25 + 0.3 * draws[4]) / z
        if draws[5] < 0.45:  # a tree
            discs = np.array([[x, top, crown], [x - 0.6 * crown, top + 0.5 * crown, 0.7 * crown]])
            _stamp(backdrop, discs, (x - thick, top, x + thick, ground), paint, z)
        elif draws[5] < 0.75:  # a bush
            discs = np.array([[x, ground - 0.7 * crown, 0.8 * crown], [x + crown, ground - 0.5 * crown, 0.6 * crown]])
            _stamp(backdrop, discs, None, paint, z)
        else:  # a pillar
            _stamp(backdrop, np.zeros((0, 3)), (x - 2 * thick, top, x + 2 * thick, ground), paint, z)


def paint_occluder(
    backdrop: Backdrop, segmentation: np.ndarray, camera: Camera, z0: float, rng: np.random.Generator
) -> None:
    """In half of the scenes: a pole, foliage at the foot or a leafy branch in front of the object, which is at z0."""
    draws = rng.random(8).tolist()
    paint = colour(rng, (0.2, 0.8), (0.2, 0.8))
    if draws[0] > 0.5:
        return
    z = z0 * (0.5 + 0.25 * draws[1])
    x, radius = draws[2], 0.04 + 0.05 * draws[3]
    post = None
    discs = np.zeros((0, 3))
    if draws[4] < 0.35:  # a pole
        post = (x - 0.4 * radius, -0.1, x + 0.4 * radius, camera.horizon + camera.height / z)
    elif draws[4] < 0.7:  # foliage, nearer than the lowest row of ground
        z = (0.7 + 0.25 * draws[1]) * camera.height / (1 - camera.horizon)
        columns = x + radius * np.array([-1.6, 0.0, 1.5])
        discs = np.stack([columns, 1 - radius * np.array(draws[5:8]), np.full(3, 1.2 * radius)], 1)
    else:  # a branch, from the nearer side
        edge, side = (0.0, 1.0) if x < 0.5 else (1.0, -1.0)
        steps = np.arange(4) * (0.5 + draws[5]) * radius
        discs = np.stack([edge + 1.3 * side * steps, 0.5 * (draws[6] + steps), np.full(4, 0.8 * radius)], 1)
    covered = _stamp(backdrop, discs, post, paint, z)
    if covered is not None:
        rows, columns, inside = covered
        segmentation[rows, columns][inside] = 0

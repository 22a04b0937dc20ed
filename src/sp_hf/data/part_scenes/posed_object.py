"""The object of a PartScenes scene: its pose, its pixels and its shadow.

The object is a flat shape standing upright on the ground at depth z0, turned by `yaw` about the vertical. A point
(a, b) of its plane (metres along it, and up from the ground) is the point (x0 + a cos yaw, b, z0 + a sin yaw) of the
scene (`backgrounds.Camera`), so every pixel's depth is exact. In its plane the object is rotated,
mirrored, stretched and scaled, and each piece is jittered a little.

P pieces (rows of PART_ORDER), S image size, h x w a window of pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .backgrounds import Backdrop, Camera, colours, pixel_centres
from .difficulty import DIFFICULTIES, Difficulty
from .objects import PART_ORDER, PARTS
from .paints import PAINTS
from .raster import Material, mix, outline, pattern_frequency, signed_distance

OUTLINES = np.stack([outline(part) for part in PART_ORDER])  # [P, 24, 2]
PART_IDS = tuple(PARTS.index(part) + 1 for part in PART_ORDER)
OUTLINE_WIDTH = 0.012  # of the dark line round each piece, in image widths


class Pose(NamedTuple):
    """Where an object stands: the pieces' centres in its plane [P, 2] in metres, the maps from piece to plane [P, 2, 2]
    (columns are the piece's axes), the foot of the plane (x0, z0) in metres and its yaw in radians."""

    centres: np.ndarray
    axes: np.ndarray
    x0: float
    z0: float
    yaw: float

    def outlines(self) -> np.ndarray:
        """Outline points of the pieces in the plane, [P, 24, 2] metres."""
        return OUTLINES @ self.axes.transpose(0, 2, 1) + self.centres[:, None]


class Mask(NamedTuple):
    """One piece on the canvas: its window of rows and columns; coverage, signed distance in pixels, and the piece's own
    coordinates u, v, all [h, w]."""

    rows: slice
    columns: slice
    coverage: np.ndarray
    distance: np.ndarray
    u: np.ndarray
    v: np.ndarray


class Plane(NamedTuple):
    """What each pixel sees of the object's plane: along [S] and up [S, S] in metres; depth [S]."""

    along: np.ndarray
    up: np.ndarray
    depth: np.ndarray


def _piece_axes(level: Difficulty, draws: list[float], jitter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps to the plane, rotated, mirrored and stretched: from the object frame [2, 2], from each piece [P, 2, 2]."""
    turn = (draws[0] - 0.5) * level.turn
    mirror = 1.0 if draws[1] < 0.5 else -1.0
    stretch = math.exp((draws[2] - 0.5) * level.stretch)
    cos, sin = math.cos(turn), math.sin(turn)
    body = np.array([[cos * mirror / stretch, -sin * stretch], [sin * mirror / stretch, cos * stretch]])
    tilt = jitter[:, 2] * level.tilt
    rows = [np.stack([np.cos(tilt), -np.sin(tilt)], 1), np.stack([np.sin(tilt), np.cos(tilt)], 1)]
    return body, (body @ np.stack(rows, 1)) * (1 + level.growth * jitter[:, 3])[:, None, None]


def pose_object(
    centres: np.ndarray, size: int, rng: np.random.Generator, level: Difficulty = DIFFICULTIES["hard"]
) -> tuple[Pose, Camera]:
    """A random pose of an arrangement [P, 2], with a camera that sees it; larger objects stand nearer and lower."""
    draws = rng.random(8).tolist()
    jitter = rng.random((len(PART_ORDER), 4)) - 0.5
    body, axes = _piece_axes(level, draws, jitter)
    placed = (centres + level.place * jitter[:, :2]) @ body.T
    yaw = (draws[3] - 0.5) * level.yaw
    points = Pose(placed, axes, 0.0, 1.0, yaw).outlines().reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    placed -= [(low[0] + high[0]) / 2, low[1]]  # centred, and standing on the ground
    width, height = (high - low).tolist()
    # One metre of object has the same distribution of sizes in the image for every class, so that the sizes of parts
    # tell nothing about the class; a large object may therefore be cut by the border.
    metre = level.metre[0] + level.metre[1] * draws[4]
    if level.wander is not None:
        return _centred_pose(placed, axes, yaw, metre, height, level.wander * (2 * np.array(draws[5:7]) - 1), size)
    foot = min(0.98, max(height * metre + 0.03, 0.72 + 0.22 * draws[5] + 0.5 * (metre - 0.35)))
    horizon = min(0.62, max(0.16, foot - metre * (0.8 + 0.9 * draws[6])))
    z0 = 1 / metre
    slack = max(0.0, 1 - width * math.cos(yaw) * metre) / 2 + 0.03
    x0 = (draws[7] * 2 - 1) * slack * z0
    return Pose(placed, axes, x0, z0, yaw), Camera(horizon, (foot - horizon) * z0, size)


def _centred_pose(
    placed: np.ndarray, axes: np.ndarray, yaw: float, metre: float, height: float, shift: np.ndarray, size: int
) -> tuple[Pose, Camera]:
    """The object's middle at the image's, but for a shift [2] in image widths."""
    z0 = 1 / metre
    pose = Pose(placed, axes, float(shift[0]) * z0, z0, yaw)
    return pose, Camera(0.5, height / 2 + float(shift[1]) * z0, size)


def project_boxes(pose: Pose, camera: Camera) -> np.ndarray:
    """Bounding boxes of the whole pieces in the image, [P, 4] as (left, top, right, bottom), not clipped."""
    points = pose.outlines()
    z = pose.z0 + points[..., 0] * math.sin(pose.yaw)
    x, y = camera.project(pose.x0 + points[..., 0] * math.cos(pose.yaw), points[..., 1], z)
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)


def plane_coordinates(pose: Pose, camera: Camera) -> Plane:
    """Intersect each pixel's ray with the object's plane."""
    centres = pixel_centres(camera.size)
    offset = centres - 0.5
    along = (offset * pose.z0 - pose.x0) / (math.cos(pose.yaw) - offset * math.sin(pose.yaw))
    depth = pose.z0 + along * math.sin(pose.yaw)
    up = camera.height - (centres[:, None] - camera.horizon) * depth
    return Plane(along.astype(np.float32), up.astype(np.float32), depth.astype(np.float32))


def piece_masks(pose: Pose, plane: Plane, boxes: np.ndarray) -> list[Mask | None]:
    """Antialiased coverage of each piece on the canvas; None for a piece wholly outside it.

    Args:
        boxes: [P, 4] of `project_boxes`."""
    size = len(plane.along)
    inverse = np.linalg.inv(pose.axes)
    shift = (inverse @ pose.centres[..., None])[..., 0]
    windows = np.clip(np.concatenate([boxes[:, :2] * size - 1.5, boxes[:, 2:] * size + 2.5], 1), 0, size).astype(int)
    scales = np.sqrt(np.abs(np.linalg.det(pose.axes)) * math.cos(pose.yaw)) * size  # pixels a piece's unit, at 1 m
    masks: list[Mask | None] = []
    for part, (left, top, right, bottom), matrix, (du, dv), scale in zip(
        PART_ORDER, windows.tolist(), inverse.tolist(), shift.tolist(), scales.tolist(), strict=True
    ):
        if right <= left or bottom <= top:
            masks.append(None)
            continue
        a, b = plane.along[left:right], plane.up[top:bottom, left:right]
        u = b * matrix[0][1] + (a * matrix[0][0] - du)
        v = b * matrix[1][1] + (a * matrix[1][0] - dv)
        distance = signed_distance(part, u, v) * (scale / plane.depth[left:right])
        coverage = np.minimum(np.maximum(0.5 - distance, 0), 1)
        masks.append(Mask(slice(top, bottom), slice(left, right), coverage, distance, u, v))
    return masks


def _shade(mask: Mask, metres: float, light: tuple[float, float], line: float, ink: float) -> np.ndarray:
    """Factors [h, w], brighter towards the light and dark along the outline; ``line`` is its width in pixels."""
    height, width = mask.coverage.shape
    right = (np.arange(width, dtype=np.float32) - width / 2) * (0.5 * metres * light[0])
    up = (height / 2 - np.arange(height, dtype=np.float32)) * (0.5 * metres * light[1])
    shade = (1 + right) + up[:, None]
    shade *= 1 - ink * np.minimum(np.maximum(mask.distance + line, 0), 1)
    return shade


def paint_object(
    backdrop: Backdrop,
    segmentation: np.ndarray,
    masks: list[Mask | None],
    plane: Plane,
    light: tuple[float, float],
    material: Material,
    rng: np.random.Generator,
    flat: bool = False,
) -> None:
    """Paint the pieces in textures and colours of the material, brighter towards the light (x to the right, y up) and
    with a dark outline; flat, without either."""
    size = segmentation.shape[0]
    metres = float(plane.depth[size // 2]) / size  # a pixel, at the object
    line = max(1.0, OUTLINE_WIDTH * size)
    draws = rng.random((len(masks), 4)).tolist()
    firsts = colours(rng.random((len(masks), 3)), (0.35, 0.95), (0.5, 1.0), material.hues[0])
    seconds = colours(rng.random((len(masks), 3)), (0.1, 0.8), (0.3, 1.0), material.hues[1])
    if material.painted:
        firsts, seconds = PAINTS[:, 0], PAINTS[:, 1]
    for part_id, mask, first, second, (pick, frequency, angle, ink) in zip(
        PART_IDS, masks, firsts, seconds, draws, strict=True
    ):
        if mask is None:
            continue
        texture = material.textures[int(pick * len(material.textures))]
        frequency = pattern_frequency(frequency) if flat else 3 + 4 * frequency
        weight = texture(mask.u, mask.v, frequency, math.pi * angle, metres)
        shade = np.float32(1) if flat else _shade(mask, metres, light, line, 0.45 + 0.35 * ink)
        window = backdrop.image[:, mask.rows, mask.columns]
        window += mask.coverage * (mix(first, second, weight) * shade - window)
        inside = mask.coverage >= 0.5
        segmentation[mask.rows, mask.columns][inside] = part_id
        np.copyto(backdrop.depth[mask.rows, mask.columns], plane.depth[mask.columns], where=inside)


def paint_shadow(
    backdrop: Backdrop, masks: list[Mask | None], pose: Pose, camera: Camera, sun: tuple[float, ...], dark: float
) -> None:
    """Darken the ground where the object stands between it and the sun; sun (X, Y, Z) points to it."""
    size = camera.size
    cover = np.zeros((size + 1, size + 1), np.float32)  # the last row and column stay empty: outside the image
    for mask in masks:
        if mask is not None:
            window = cover[mask.rows, mask.columns]
            np.maximum(window, mask.coverage, out=window)
    centres = pixel_centres(size)
    first = int(math.ceil(camera.horizon * size + 0.5 + 0.04 * size))
    z = (camera.height / (centres[first:] - camera.horizon))[:, None]
    x = (centres[None] - 0.5) * z - pose.x0
    cos, sin = math.cos(pose.yaw), math.sin(pose.yaw)
    towards_x, towards_y, towards_z = sun
    cross = towards_x * sin - towards_z * cos
    along = (towards_x * (z - pose.z0) - towards_z * x) / cross  # where the ray to the sun meets the object's plane
    ray = (cos * (z - pose.z0) - sin * x) / cross
    plane_z = np.maximum(pose.z0 + along * sin, 0.05)
    column, row = camera.project(pose.x0 + along * cos, ray * towards_y, plane_z)
    column, row = (column * size).astype(np.int32), (row * size).astype(np.int32)
    seen = (ray > 0) & (column >= 0) & (column < size) & (row >= 0) & (row < size)
    shadow = cover[np.where(seen, row, size), np.where(seen, column, size)]
    shadow[:, 1:-1] = (shadow[:, :-2] + shadow[:, 1:-1] + shadow[:, 2:]) / 3
    on_ground = backdrop.depth[first:] >= z * 0.999
    backdrop.image[:, first:] *= 1 - dark * shadow * on_ground


def paint_silhouette(image: np.ndarray, masks: list[Mask | None]) -> None:
    """Replace the picture by the object in black on white."""
    image[:] = 1.0
    for mask in masks:
        if mask is not None:
            image[:, mask.rows, mask.columns] *= 1 - mask.coverage

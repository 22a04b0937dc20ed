"""PartScenes' renderer: one posed object of parts in a lit, perspective scene, with exact labels.

The object is a flat figure standing upright on the ground at depth z0, turned by `yaw` about the vertical. A point
(a, b) of its plane (metres along it, and up from the ground) is the point (x0 + a cos yaw, b, z0 + a sin yaw) of the
scene (see `part_scenes_backgrounds.Camera`), so each pixel's depth is exact. In its plane the object is rotated,
mirrored, stretched and scaled, and each piece is jittered a little.

P pieces (rows of PART_ORDER), S image size, h x w a window of pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sp_hf.data.part_scenes_backgrounds import Backdrop, Camera, colour, paint_outdoors, paint_room, pixel_centres
from sp_hf.data.part_scenes_objects import PART_ORDER, PARTS
from sp_hf.data.part_scenes_raster import NEW_TEXTURES, TEXTURES, mix, noise, outline, signed_distance

OUTLINES = np.stack([outline(part) for part in PART_ORDER])  # [P, 24, 2]
PART_IDS = tuple(PARTS.index(part) + 1 for part in PART_ORDER)
OUTLINE_WIDTH = 0.012  # of the dark line round each piece, in image widths


class Pose(NamedTuple):
    """Where an object stands: pieces' centres in its plane [P, 2], the maps from piece to plane [P, 2, 2] (columns are the
    piece's axes, metres), the plane's foot (x0, z0) in metres and its yaw in radians."""

    centres: np.ndarray
    axes: np.ndarray
    x0: float
    z0: float
    yaw: float

    def outlines(self) -> np.ndarray:
        """Outline points of the pieces in the plane, [P, 24, 2] metres."""
        return np.einsum("pij,pkj->pki", self.axes, OUTLINES) + self.centres[:, None]


class Mask(NamedTuple):
    """One piece on the canvas: its rows and columns, coverage [h, w], signed distance in pixels [h, w], and the piece's own
    coordinates u, v [h, w]."""

    rows: slice
    columns: slice
    coverage: np.ndarray
    distance: np.ndarray
    u: np.ndarray
    v: np.ndarray


# ------------------------------------------------------------------------------------------------- pose and camera
def pose_object(centres: np.ndarray, size: int, rng: np.random.Generator) -> tuple[Pose, Camera]:
    """A random pose of an arrangement [P, 2], with a camera that sees it; larger objects stand nearer and lower."""
    draws = rng.random(9).tolist()
    jitter = rng.random((len(PART_ORDER), 4)) - 0.5
    turn = (draws[0] - 0.5) * 0.6
    mirror = 1.0 if draws[1] < 0.5 else -1.0
    stretch = math.exp((draws[2] - 0.5) * 0.3)
    yaw = (draws[3] - 0.5) * 1.0
    cos, sin = math.cos(turn), math.sin(turn)
    body = np.array([[cos * mirror / stretch, -sin * stretch], [sin * mirror / stretch, cos * stretch]])
    tilt = jitter[:, 2] * 0.3
    own = np.stack([np.stack([np.cos(tilt), -np.sin(tilt)], -1), np.stack([np.sin(tilt), np.cos(tilt)], -1)], 1)
    axes = (body @ own) * (1 + 0.16 * jitter[:, 3])[:, None, None]
    middle = centres - (centres.min(0) + centres.max(0)) / 2
    placed = (middle + 0.06 * jitter[:, :2]) @ body.T
    pose = Pose(placed, axes, 0.0, 1.0, yaw)
    points = pose.outlines().reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    placed -= [(low[0] + high[0]) / 2, low[1]]
    width, height = (high - low).tolist()
    width *= math.cos(yaw)
    # The size in the image of one metre of object has the same distribution for every class, so that the sizes of
    # parts tell nothing about the class; a large object may therefore be cut by the border.
    unit = 0.28 + 0.15 * draws[4]
    z0 = 1 / unit
    foot = min(0.98, max(height * unit + 0.03, 0.72 + 0.22 * draws[5] + 0.5 * (unit - 0.35)))
    horizon = min(0.62, max(0.16, foot - unit * (0.8 + 0.9 * draws[6])))
    slack = max(0.0, 1 - width * unit) / 2 + 0.03
    x0 = (draws[7] * 2 - 1) * slack * z0
    camera = Camera(horizon, (foot - horizon) * z0, size)
    return Pose(placed, axes, x0, z0, yaw), camera


def project_boxes(pose: Pose, camera: Camera) -> np.ndarray:
    """Bounding boxes of the whole pieces in the image, [P, 4] as (left, top, right, bottom), not clipped."""
    points = pose.outlines()
    z = pose.z0 + points[..., 0] * math.sin(pose.yaw)
    x, y = camera.project(pose.x0 + points[..., 0] * math.cos(pose.yaw), points[..., 1], z)
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)


def plane_coordinates(pose: Pose, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each pixel sees of the object's plane: along [S] and up [S, S] in metres, depth [S]."""
    centres = pixel_centres(camera.size)
    offset = centres - 0.5
    along = (offset * pose.z0 - pose.x0) / (math.cos(pose.yaw) - offset * math.sin(pose.yaw))
    depth = pose.z0 + along * math.sin(pose.yaw)
    up = camera.height - (centres[:, None] - camera.horizon) * depth
    return along.astype(np.float32), up.astype(np.float32), depth.astype(np.float32)


def piece_masks(pose: Pose, camera: Camera, boxes: np.ndarray) -> list[Mask | None]:
    """Antialiased coverage of each piece on the canvas; None for a piece wholly outside it."""
    size = camera.size
    along, up, depth = plane_coordinates(pose, camera)
    inverse = np.linalg.inv(pose.axes)
    shift = np.einsum("pij,pj->pi", inverse, pose.centres)
    windows = np.clip(np.concatenate([boxes[:, :2] * size - 1.5, boxes[:, 2:] * size + 2.5], 1), 0, size).astype(int)
    scales = np.sqrt(np.abs(np.linalg.det(pose.axes)) * math.cos(pose.yaw)) * size  # pixels a piece's unit, at 1 m
    masks: list[Mask | None] = []
    for part, (left, top, right, bottom), matrix, (du, dv), scale in zip(
        PART_ORDER, windows.tolist(), inverse.tolist(), shift.tolist(), scales.tolist(), strict=True
    ):
        if right <= left or bottom <= top:
            masks.append(None)
            continue
        a, b = along[left:right], up[top:bottom, left:right]
        u = b * matrix[0][1] + (a * matrix[0][0] - du)
        v = b * matrix[1][1] + (a * matrix[1][0] - dv)
        distance = signed_distance(part, u, v) * (scale / depth[left:right])
        coverage = np.minimum(np.maximum(0.5 - distance, 0), 1)
        masks.append(Mask(slice(top, bottom), slice(left, right), coverage, distance, u, v))
    return masks


# ---------------------------------------------------------------------------------------------------- the object
def paint_object(
    backdrop: Backdrop,
    segmentation: np.ndarray,
    masks: list[Mask | None],
    plane_depth: np.ndarray,
    light: tuple[float, float],
    new_textures: bool,
    unit: float,
    rng: np.random.Generator,
) -> None:
    """Paint the pieces with random textures and colours, shaded from the side of the light (x, y)."""
    size = segmentation.shape[0]
    textures = list((NEW_TEXTURES if new_textures else TEXTURES).values())
    draws = rng.random((len(masks), 4)).tolist()
    line = max(1.0, OUTLINE_WIDTH * size)
    for part_id, mask, (pick, frequency, angle, ink) in zip(PART_IDS, masks, draws, strict=True):
        first = colour(rng, (0.35, 0.95), (0.5, 1.0))
        second = colour(rng, (0.1, 0.8), (0.3, 1.0))
        if mask is None:
            continue
        texture = textures[int(pick * len(textures))]
        weight = texture(mask.u, mask.v, 3 + 4 * frequency, math.pi * angle, 1 / (unit * size))
        shade = 1 + 0.5 * (light[0] * mask.u + light[1] * mask.v)
        shade *= 1 - (0.45 + 0.35 * ink) * np.minimum(np.maximum(mask.distance + line, 0), 1)
        paint = mix(first, second, weight) * shade
        window = backdrop.image[:, mask.rows, mask.columns]
        window += mask.coverage * (paint - window)
        inside = mask.coverage >= 0.5
        segmentation[mask.rows, mask.columns][inside] = part_id
        np.copyto(backdrop.depth[mask.rows, mask.columns], plane_depth[mask.columns], where=inside)


def paint_shadow(
    image: np.ndarray,
    depth: np.ndarray,
    masks: list[Mask | None],
    pose: Pose,
    camera: Camera,
    sun: np.ndarray,
    dark: float,
) -> None:
    """Darken the ground where the object stands between it and the sun; sun [3] points to it in (X, Y, Z)."""
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
    towards_x, towards_y, towards_z = sun.tolist()
    cross = towards_x * sin - towards_z * cos
    along = (towards_x * (z - pose.z0) - towards_z * x) / cross  # where the ray to the sun meets the object's plane
    ray = (cos * (z - pose.z0) - sin * x) / cross
    plane_z = np.maximum(pose.z0 + along * sin, 0.05)
    column, row = camera.project(pose.x0 + along * cos, ray * towards_y, plane_z)
    column, row = (column * size).astype(np.int32), (row * size).astype(np.int32)
    seen = (ray > 0) & (column >= 0) & (column < size) & (row >= 0) & (row < size)
    shadow = cover[np.where(seen, row, size), np.where(seen, column, size)]
    shadow[:, 1:-1] = (shadow[:, :-2] + shadow[:, 1:-1] + shadow[:, 2:]) / 3
    on_ground = depth[first:] >= z * 0.999
    image[:, first:] *= 1 - dark * shadow * on_ground


# ----------------------------------------------------------------------------------------- props and occluders
def _stamp(
    backdrop: Backdrop, discs: np.ndarray, post: tuple[float, float, float, float] | None, paint: np.ndarray, z: float
) -> tuple[slice, slice, np.ndarray] | None:
    """Paint a union of discs [N, 3] (x, y, radius in image widths) and a post (left, top, right, bottom) at depth z.

    Returns the rows, columns and where it covers the pixels, or None when it lies outside the image."""
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
    coverage = np.clip(0.5 - distance, 0, 1)
    shade = (0.75 + 0.5 * noise(x * (4 * z) + 64, y * (4 * z) + 64)) * (1 - 0.4 * np.clip(distance + 1.2, 0, 1))
    rows, columns = slice(top, bottom), slice(left, right)
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


def paint_occluder(backdrop: Backdrop, segmentation: np.ndarray, z0: float, rng: np.random.Generator) -> None:
    """In half of the scenes: a pole, foliage at the foot or a leafy branch in front of the object."""
    draws = rng.random(10).tolist()
    paint = colour(rng, (0.2, 0.8), (0.2, 0.8))
    if draws[0] > 0.5:
        return
    z = z0 * (0.55 + 0.3 * draws[1])
    x, radius = draws[2], 0.04 + 0.05 * draws[3]
    post = None
    discs = np.zeros((0, 3))
    if draws[4] < 0.35:
        post = (x - 0.4 * radius, -0.1, x + 0.4 * radius, 1.1)
    elif draws[4] < 0.7:
        spread = radius * np.array([-1.6, 0.0, 1.5])
        discs = np.stack([x + spread, 1 - radius * np.array(draws[5:8]), np.full(3, 1.2 * radius)], 1)
    else:
        side = 1.0 if x < 0.5 else -1.0
        edge = 0.0 if x < 0.5 else 1.0
        steps = np.arange(4) * (0.5 + draws[5])
        discs = np.stack(
            [edge + side * steps * 1.3 * radius, draws[6] * 0.5 + steps * 0.5 * radius, np.full(4, 0.8 * radius)], 1
        )
    covered = _stamp(backdrop, discs, post, paint, z)
    if covered is not None:
        rows, columns, inside = covered
        segmentation[rows, columns][inside] = 0


# ------------------------------------------------------------------------------------------------------ a scene
class Rendering(NamedTuple):
    """image uint8 [S, S, 3]; segmentation uint8 [S, S]; depth float32 [S, S] in metres; boxes [P, 4] as (left, top, right,
    bottom) of the whole pieces in image widths and heights, not clipped."""

    image: np.ndarray
    segmentation: np.ndarray
    depth: np.ndarray
    boxes: np.ndarray


def render(
    centres: np.ndarray,
    size: int,
    *,
    streams: tuple[np.random.Generator, np.random.Generator, np.random.Generator, np.random.Generator],
    new_textures: bool = False,
    new_background: bool = False,
    silhouette: bool = False,
) -> Rendering:
    """Draw one scene.

    Args:
        centres: [P, 2] the arrangement, in the object frame.
        size: side of the square image in pixels.
        streams: random numbers for pose, looks, surroundings and occluder; separate, so that a variant that changes
            one leaves the others as they were.
        new_textures, new_background: draw from the held-out kinds.
        silhouette: a black object on white; labels as for the same scene without props and occluder.
    """
    pose_rng, looks_rng, surroundings_rng, occluder_rng = streams
    pose, camera = pose_object(centres, size, pose_rng)
    light, elevation, towards, indoors, strength = surroundings_rng.random(5).tolist()
    light = 2 * light - 1
    if indoors < 0.4:
        backdrop = paint_room(camera, light, 1.35 * pose.z0, new_background, surroundings_rng)
    else:
        backdrop = paint_outdoors(camera, light, new_background, surroundings_rng)
    if not silhouette:
        paint_props(backdrop, camera, pose.z0, surroundings_rng)
    segmentation = np.zeros((size, size), np.uint8)
    boxes = project_boxes(pose, camera)
    masks = piece_masks(pose, camera, boxes)
    sun = np.array([light, 0.6 + elevation, math.copysign(0.5 + 0.5 * abs(2 * towards - 1), 2 * towards - 1)])
    paint_shadow(backdrop.image, backdrop.depth, masks, pose, camera, sun, 0.3 + 0.3 * strength)
    _, _, plane_depth = plane_coordinates(pose, camera)
    paint_object(backdrop, segmentation, masks, plane_depth, (light, 0.6), new_textures, 1 / pose.z0, looks_rng)
    if silhouette:
        _as_silhouette(backdrop.image, masks)
    else:
        paint_occluder(backdrop, segmentation, pose.z0, occluder_rng)
    image = np.clip(backdrop.image * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return Rendering(np.ascontiguousarray(image), segmentation, backdrop.depth, boxes)


def _as_silhouette(image: np.ndarray, masks: list[Mask | None]) -> None:
    image[:] = 1.0
    for mask in masks:
        if mask is not None:
            image[:, mask.rows, mask.columns] *= 1 - mask.coverage

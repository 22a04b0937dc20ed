"""PartScenes' renderer: one posed object of parts in a lit scene in perspective, with exact labels.

Painted back to front: surroundings (`backgrounds.py`), props, the object's shadow, the object
(`posed_object.py`), and in half of the scenes an occluder (`props.py`).

P pieces (rows of PART_ORDER), S image size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .backgrounds import Backdrop, Camera, paint_outdoors, paint_room
from .difficulty import Difficulty
from .posed_object import (
    Pose,
    paint_object,
    paint_shadow,
    paint_silhouette,
    piece_masks,
    plane_coordinates,
    pose_object,
    project_boxes,
)
from .props import paint_occluder, paint_props
from .raster import Material
from .stage import paint_stage


class Rendering(NamedTuple):
    """image uint8 [S, S, 3]; segmentation uint8 [S, S]; depth float32 [S, S] in metres; boxes [P, 4] of the whole
    pieces as (left, top, right, bottom) in image widths and heights, not clipped."""

    image: np.ndarray
    segmentation: np.ndarray
    depth: np.ndarray
    boxes: np.ndarray


class Streams(NamedTuple):
    """A scene's random numbers by purpose, so that a variant that changes one leaves the others as they were."""

    pose: np.random.Generator
    looks: np.random.Generator
    surroundings: np.random.Generator
    occluder: np.random.Generator


def _paint_surroundings(
    pose: Pose, camera: Camera, light: float, indoors: bool, new: bool, rng: np.random.Generator
) -> Backdrop:
    if not indoors:
        return paint_outdoors(camera, light, new, rng)
    clear = np.abs(pose.x0 + pose.outlines()[..., 0] * math.cos(pose.yaw)).max() + 0.1
    return paint_room(camera, light, 1.35 * pose.z0, float(clear), new, rng)


def render(
    centres: np.ndarray,
    size: int,
    streams: Streams,
    material: Material,
    level: Difficulty,
    *,
    new_background: bool = False,
    silhouette: bool = False,
    wall: Material | None = None,
) -> Rendering:
    """Draw one scene.

    Args:
        centres: [P, 2] the arrangement, in the object frame.
        size: side of the square image in pixels.
        material: of the parts.
        level: what varies.
        new_background: draw from the held-out kinds.
        silhouette: a black object on white; labels as for the same scene without props and occluder.
        wall: what a stage's wall is made of; the parts' material by default.
    """
    pose, camera = pose_object(centres, size, streams.pose, level)
    rng = streams.surroundings
    light, elevation, towards, indoors, strength = rng.random(5).tolist()
    light = 2 * light - 1
    if level.staged:
        backdrop = paint_stage(camera, pose.z0, wall or material, new_background, rng)
    else:
        backdrop = _paint_surroundings(pose, camera, light, indoors < 0.4, new_background, rng)
        if not silhouette:
            paint_props(backdrop, camera, pose.z0, rng)
    boxes = project_boxes(pose, camera)
    plane = plane_coordinates(pose, camera)
    masks = piece_masks(pose, plane, boxes)
    if not level.staged:
        sun = (light, 0.6 + elevation, (0.7 + abs(towards - 0.5)) * (1 if towards > 0.5 else -1))
        paint_shadow(backdrop, masks, pose, camera, sun, 0.3 + 0.3 * strength)
    segmentation = np.zeros((size, size), np.uint8)
    paint_object(backdrop, segmentation, masks, plane, (light, 0.6), material, streams.looks, level.staged)
    if silhouette:
        paint_silhouette(backdrop.image, masks)
    elif not level.staged:
        paint_occluder(backdrop, segmentation, camera, pose.z0, streams.occluder)
    image = np.clip(backdrop.image * 255 + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return Rendering(np.ascontiguousarray(image), segmentation, backdrop.depth, boxes)

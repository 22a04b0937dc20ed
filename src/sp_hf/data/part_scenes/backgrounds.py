"""PartScenes' surroundings: a perspective ground under a sky, or a room, with exact depth.

A pinhole camera at `height` metres above a flat ground looks straight ahead, with a focal length of one image width;
moving the horizon shifts the lens and does not tilt it. A point (X, Y, Z) metres (right, up, ahead) is seen at
    x = 1/2 + X / Z,        y = horizon + (height - Y) / Z        (image widths from the left, heights from the top).
Depth is Z. Skies and hills lie at MAX_DEPTH.

S image size in pixels; images are planar [3, S, S] float32 in [0, 1].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .raster import mix, noise, square_wave

MAX_DEPTH = 80.0


class Camera(NamedTuple):
    """horizon in image heights from the top; height in metres; size in pixels."""

    horizon: float
    height: float
    size: int

    def project(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image coordinates of points given in metres."""
        return 0.5 + x / z, self.horizon + (self.height - y) / z


class Backdrop(NamedTuple):
    """A painted background: image [3, S, S], depth [S, S], and how far away things can stand in it (metres)."""

    image: np.ndarray
    depth: np.ndarray
    far: float


Range = tuple[float, float]


def colours(draws: np.ndarray, saturation: Range, value: Range, hue: Range = (0.0, 1.0)) -> np.ndarray:
    """RGB colours float32 [n, 3] of hue, saturation and value in the given ranges; hues wrap at 1.

    Args:
        draws: uniform numbers [n, 3] in [0, 1).
    """
    low, high = np.array([hue, saturation, value]).T
    h, s, v = (low + draws * (high - low)).T[..., None]
    sector = (np.array([5.0, 3.0, 1.0]) + 6 * h) % 6  # red, green, blue
    return (v - v * s * np.clip(np.minimum(sector, 4 - sector), 0, 1)).astype(np.float32)


def colour(rng: np.random.Generator, saturation: Range, value: Range, hue: Range = (0.0, 1.0)) -> np.ndarray:
    """One random colour [3]; see `colours`."""
    return colours(rng.random((1, 3)), saturation, value, hue)[0]


def pixel_centres(size: int) -> np.ndarray:
    """Positions of pixel centres along a side, in image widths: float32 [S]."""
    return (np.arange(size, dtype=np.float32) + 0.5) / size


def first_ground_row(camera: Camera) -> int:
    """The first row whose centre lies below the horizon, by a thousandth of a pixel or more."""
    return int(math.floor(camera.horizon * camera.size + 0.501))


# ------------------------------------------------------------------------------------------------------- ground
GROUNDS = ("tiles", "planks", "rows", "grass", "plain")
NEW_GROUNDS = ("grid", "waves", "ripples")


def ground_pattern(kind: str, rng: np.random.Generator, x: np.ndarray, z: np.ndarray, camera: Camera) -> np.ndarray:
    """A pattern in [-1, 1] on the ground at x [R, S], z [R, 1] metres, fading with distance before it can alias."""
    scale, turn, shift = rng.random(3).tolist()
    period = 0.5 + 0.9 * scale
    step_z, step_x = z * z / (camera.height * camera.size), z / camera.size
    if kind == "planks":
        return square_wave(x / period + shift, step_x / period)
    if kind == "rows":
        return square_wave(z / period + shift, step_z / period) + 0 * x
    if kind == "tiles":
        angle = (0.0, 0.0, math.pi / 4, 0.5)[int(4 * turn)]
        cos, sin = math.cos(angle) / period, math.sin(angle) / period
        soft_x, soft_z = step_x * cos + step_z * sin, step_z * cos + step_x * sin
        return square_wave(x * cos + z * sin + shift, soft_x) * square_wave(z * cos - x * sin, soft_z)
    if kind == "grass":
        fade = np.clip(1.5 - 4 * step_z / period, 0, 1)
        return (2.4 * noise(x / (0.3 * period) + 100, z / (0.3 * period) + 32 * shift) - 1.2) * fade
    if kind == "grid":
        lines = [np.abs(w - np.round(w)) - 0.06 for w in (x / period + shift, z / period)]
        near = [np.clip(0.5 - d / s, 0, 1) for d, s in zip(lines, (step_x / period, step_z / period), strict=True)]
        return 2 * np.maximum(*near) * np.clip(1.4 - 2 * step_z / period, 0, 1) - 1
    if kind == "waves":
        phase = z / (0.5 * period) + 1.2 * noise(x / period + 100, z / period)
        return np.sin(2 * math.pi * phase) * np.clip(1.3 - 4 * step_z / period, 0, 1)
    if kind == "ripples":
        centre = 2 * turn - 1
        radius = np.sqrt((x - centre) ** 2 + (z - 3) ** 2)
        return square_wave(radius / (0.7 * period), step_z / (0.7 * period))
    return np.zeros((1, 1), np.float32)


def paint_ground(
    image: np.ndarray,
    depth: np.ndarray,
    camera: Camera,
    first_row: int,
    haze: np.ndarray,
    kind: str,
    rng: np.random.Generator,
) -> None:
    """Paint the ground from first_row down, into image and depth; colours fade into `haze` with distance."""
    y = pixel_centres(camera.size)
    z = (camera.height / (y[first_row:] - camera.horizon))[:, None]  # [R, 1]
    x = (y[None] - 0.5) * z  # [R, S]
    depth[first_row:] = np.minimum(z, MAX_DEPTH)
    any_hue = rng.random() < 0.3
    base = colour(rng, (0.1, 0.6), (0.35, 0.85), (0.0, 1.0) if any_hue else (0.05, 0.4))  # else earth and grass
    contrast = 0.12 + 0.2 * rng.random()
    shade = 1 + contrast * ground_pattern(kind, rng, x, z, camera)
    fog = np.exp(-z / 18.0)  # [R, 1]
    image[:, first_row:] = haze[:, None, None] + fog * (base[:, None, None] * shade - haze[:, None, None])


# ----------------------------------------------------------------------------------------------------- outdoors
def _paint_sky(image: np.ndarray, rows: int, light: float, dark: bool, rng: np.random.Generator) -> np.ndarray:
    """A sky over the first rows, brightest on the side of the light; returns its colour at the horizon."""
    centres = pixel_centres(image.shape[1])
    y, x = centres[:rows, None], centres[None]
    value = ((0.05, 0.25), (0.25, 0.5)) if dark else ((0.55, 0.9), (0.8, 1.0))
    hues = ((0.52, 0.66), (0.52, 0.66), (0.9, 1.12), (0.0, 1.0))[int(4 * rng.random())]  # day, day, evening, any
    top, bottom = colour(rng, (0.35, 0.8), value[0], hues), colour(rng, (0.05, 0.45), value[1], hues)
    rise, clouds, sun_x, sun_y = rng.random(4).tolist()
    image[:, :rows] = mix(top, bottom, (y / y[-1]) ** (0.6 + rise))
    sun_x, sun_y = 0.5 + light * (0.15 + 0.35 * sun_x), y[-1] * (0.15 + 0.6 * sun_y)
    glow = np.exp(-((x - sun_x) ** 2 + (y - sun_y) ** 2) * 14)
    image[:, :rows] += (0.15 if dark else 0.35) * glow
    overhead = 0.35 / (y[-1] + 0.04 - y)  # a layer of clouds, or of stars, seen in perspective
    if dark:
        stars = noise(40 * x + 64, 40 * y) > 0.8
        image[:, :rows] += 0.6 * stars
    elif clouds < 0.6:
        cover = np.clip((noise((x - 0.5) * overhead * 4 + 100, overhead * 3 + 32 * clouds) - 0.5) * 4, 0, 1)
        image[:, :rows] += (0.7 * cover * np.clip(1.5 - 0.3 * overhead, 0, 1)) * (1 - image[:, :rows])
    return bottom


def _paint_ridge(image: np.ndarray, rows: int, haze: np.ndarray, rng: np.random.Generator) -> None:
    """Hills, a wood or a town on the horizon."""
    kind, tall, phase, blend = rng.random(4).tolist()
    if kind < 0.2:
        return
    size = image.shape[1]
    x = pixel_centres(size)
    if kind < 0.5:  # hills
        shape = 0.5 + 0.3 * np.sin(x * (5 + 4 * tall) + 6 * phase) + 0.2 * np.sin(x * 13 + 20 * phase)
    elif kind < 0.75:  # a wood
        shape = 0.6 + 0.4 * np.abs(np.sin(x * (18 + 10 * tall) + 6 * phase)) - 0.3 * np.sin(3 * x + 9 * phase)
    else:  # a town
        shape = noise(np.floor(x * 14 + 9 * phase) + 0.5, np.array([40 * tall], np.float32))
    crest = rows - size * (0.03 + 0.12 * tall) * shape  # [S], in pixels
    first = max(0, int(crest.min()) - 1)
    y = np.arange(first, rows, dtype=np.float32)[:, None] + 0.5
    cover = np.clip(y - crest + 0.5, 0, 1)
    paint = haze + (0.4 + 0.4 * blend) * (colour(rng, (0.2, 0.6), (0.2, 0.6)) - haze)
    image[:, first:rows] += cover * (paint[:, None, None] - image[:, first:rows])


def paint_outdoors(camera: Camera, light: float, new: bool, rng: np.random.Generator) -> Backdrop:
    """Ground under a sky. light: -1 from the left .. 1 from the right; new: kinds that the standard variant lacks."""
    image = np.empty((3, camera.size, camera.size), np.float32)
    depth = np.full((camera.size, camera.size), MAX_DEPTH, np.float32)
    rows = first_ground_row(camera)
    haze = _paint_sky(image, rows, light, new, rng)
    if not new:
        _paint_ridge(image, rows, haze, rng)
    kinds = NEW_GROUNDS if new else GROUNDS
    paint_ground(image, depth, camera, rows, haze, kinds[int(rng.random() * len(kinds))], rng)
    return Backdrop(image, depth, 12.0)


# ------------------------------------------------------------------------------------------------------ indoors
WALLS = ("plain", "stripes", "bricks", "panels")
NEW_WALLS = ("spots", "waves", "diagonal")


def wall_pattern(
    kind: str, rng: np.random.Generator, s: np.ndarray, height: np.ndarray, footprint: np.ndarray
) -> np.ndarray:
    """A pattern in [-1, 1] on walls, at s [S] metres along and height [S, S] metres above the floor."""
    scale, shift = rng.random(2).tolist()
    period = 0.35 + 0.6 * scale
    along, up, soft = s / period + shift, height / period, footprint / period
    if kind == "stripes":
        return square_wave(along, soft)[None]
    if kind == "bricks":
        row = np.floor(2.5 * up)
        joint = np.minimum(
            np.abs(2.5 * up - np.round(2.5 * up)) / 2.5, np.abs(along + 0.5 * row - np.round(along + 0.5 * row))
        )
        return 1 - 2 * np.clip(0.5 - (joint - 0.04) / soft, 0, 1)
    if kind == "panels":
        return square_wave(along * 0.7, soft) * square_wave(up * 0.7, soft)
    if kind == "spots":
        cell_x, cell_y = along * 1.3 - np.round(along * 1.3), up * 1.3 - np.round(up * 1.3)
        return 1 - 2 * np.clip(0.5 - (np.sqrt(cell_x**2 + cell_y**2) - 0.3) / soft, 0, 1)
    if kind == "waves":
        return square_wave(up + 0.25 * np.sin(2 * math.pi * along), 1.5 * soft)
    if kind == "diagonal":
        return square_wave(along + up, soft)
    return np.zeros((1, 1), np.float32)


class Walls(NamedTuple):
    """A back wall and perhaps a side wall: depth [S] in metres in each column of the image, metres along the walls [S],
    unrolled at the corner, and which columns show the side wall [S]."""

    depth: np.ndarray
    along: np.ndarray
    side: np.ndarray


def _place_walls(centres: np.ndarray, far: float, clear: float, choice: float, corner: float) -> Walls:
    """A back wall `far` metres away; for choice < 0.6 a side wall at least `clear` metres from the middle."""
    offset = centres - 0.5
    back = np.full_like(centres, far)
    if choice >= 0.6:
        return Walls(back, offset * far, np.zeros(len(centres), bool))
    sign = 1 if choice < 0.3 else -1
    distance = max(clear, (0.12 + 0.3 * corner) * far)
    side = np.minimum(back, distance / np.maximum(sign * offset, 1e-6))
    return Walls(side, np.where(side < far, sign * (distance + far - side), offset * far), side < far)


def paint_room(
    camera: Camera, light: float, nearest: float, clear: float, new: bool, rng: np.random.Generator
) -> Backdrop:
    """A floor, a back wall and sometimes a side wall, lit from one side.

    Args:
        light: -1 from the left .. 1 from the right.
        nearest: the back wall stands farther away than this (metres).
        clear: a side wall stands at least this far to the side (metres).
        new: kinds of walls and floors that the standard variant lacks.
    """
    size = camera.size
    centres = pixel_centres(size)
    far, corner, side, kind, contrast = rng.random(5).tolist()
    far = nearest * (1.25 + 1.2 * far)
    walls = _place_walls(centres, far, clear, side, corner)
    above = camera.height - (centres[:, None] - camera.horizon) * walls.depth  # [S, S] metres above the floor
    names = NEW_WALLS if new else WALLS
    pattern = wall_pattern(names[int(kind * len(names))], rng, walls.along, above, walls.depth / size)
    base = colour(rng, (0.05, 0.5), (0.55, 0.95))
    shade = (1 + (0.06 + 0.14 * contrast) * pattern) * (1 + 0.35 * light * (centres - 0.5))
    shade = shade * np.where(walls.side, 0.8, 1.0) * np.clip(0.78 + 0.12 * above, 0.6, 1.1)
    shade = shade * np.where(above < 0.12, 0.55, 1.0)  # the skirting board
    image = (base[:, None, None] * shade).astype(np.float32)
    depth = np.tile(walls.depth, (size, 1))
    floor_image, floor_depth = np.zeros_like(image), np.zeros_like(depth)
    rows = first_ground_row(camera)
    kinds = NEW_GROUNDS if new else GROUNDS
    paint_ground(floor_image, floor_depth, camera, rows, base * 0.7, kinds[int(rng.random() * len(kinds))], rng)
    floor = above < 0
    np.copyto(image, floor_image, where=floor)
    np.copyto(depth, floor_depth, where=floor)
    return Backdrop(image, depth, 0.95 * far)

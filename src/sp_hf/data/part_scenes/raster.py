"""Signed distances, textures and noise: the drawing primitives of PartScenes.

All functions are vectorised over the pixels of a small window: u to the right and v up, in object units (metres)
measured from the centre of the shape's bounding box. A signed distance is negative inside; times pixels a unit it
gives an antialiased coverage. Images are planar [3, H, W] float32 in [0, 1] while they are painted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .objects import PART_EXTENTS

NOISE_SIZE = 256
NOISE_CELL = 8  # noise cells are this many texels wide


def _smooth_noise(seed: int) -> np.ndarray:
    """Tileable value noise in [0, 1], [NOISE_SIZE, NOISE_SIZE] float32, in two octaves."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    total = np.zeros((NOISE_SIZE, NOISE_SIZE))
    for cell, weight in ((NOISE_CELL, 0.65), (NOISE_CELL // 2, 0.35)):
        values = rng.random((NOISE_SIZE // cell, NOISE_SIZE // cell))
        position = np.arange(NOISE_SIZE) / cell
        low = position.astype(int)
        blend = position - low
        blend = blend * blend * (3 - 2 * blend)
        high = (low + 1) % values.shape[0]
        rows = values[low] + blend[:, None] * (values[high] - values[low])
        total += weight * (rows[:, low] + blend * (rows[:, high] - rows[:, low]))
    return total.astype(np.float32)


NOISE = _smooth_noise(0)


def noise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise in [0, 1] at coordinates where one unit is one noise cell; x and y broadcast."""
    columns = (x * NOISE_CELL).astype(np.int32) & (NOISE_SIZE - 1)
    rows = (y * NOISE_CELL).astype(np.int32) & (NOISE_SIZE - 1)
    return NOISE[rows, columns]


def square_wave(x: np.ndarray, footprint: np.ndarray | float) -> np.ndarray:
    """A square wave of period 1 in [-1, 1], softened to a pixel of the given footprint (periods a pixel) and fading
    to 0 where a pixel covers the better part of a period."""
    wave = np.abs(x - np.floor(x) - 0.5) * 4 - 1
    footprint = np.maximum(footprint, 0.02)
    return np.clip(wave / (4 * footprint), -1, 1) * np.clip(1.6 - 2.2 * footprint, 0, 1)


def mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """first + weight (second - first) for colours [3] and weights [H, W]: planar [3, H, W]."""
    return first[:, None, None] + weight * (second - first)[:, None, None]


# ---------------------------------------------------------------------------------------------- signed distances
def _box(u: np.ndarray, v: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    return np.maximum(np.abs(u) - half_width, np.abs(v) - half_height)


def _triangle(u: np.ndarray, v: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    length = math.hypot(half_width, 2 * half_height)
    side = (np.abs(u) * (2 * half_height) + (v - half_height) * half_width) / length
    return np.maximum(side, -half_height - v)


def _dome(u: np.ndarray, v: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    up = v + half_height
    return np.maximum(np.sqrt(u * u + up * up) - half_width, -up)


def _ring(u: np.ndarray, v: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    thickness = 0.3 * half_width
    return np.abs(np.sqrt(u * u + v * v) - (half_width - thickness)) - thickness


def _star(u: np.ndarray, v: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    sector = 2 * math.pi / 5
    angle = np.arctan2(u, v)
    angle = np.abs(angle - sector * np.round(angle / sector))
    radius = np.sqrt(u * u + v * v)
    inner = 0.48 * half_width
    # The edge from a tip (half_width, 0) to the next notch, and its outward normal.
    across, up = half_width - inner * math.cos(sector / 2), inner * math.sin(sector / 2)
    normal_x, normal_y = up / math.hypot(across, up), across / math.hypot(across, up)
    return (radius * np.cos(angle) - half_width) * normal_x + radius * np.sin(angle) * normal_y


def _wheel(u: np.ndarray, v: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    radius = np.sqrt(u * u + v * v)
    rim = 0.15 * half_width
    tyre = np.abs(radius - (half_width - rim)) - rim
    spokes = np.maximum(np.minimum(np.abs(u), np.abs(v)) - 0.12 * half_width, radius - half_width)
    return np.minimum(np.minimum(tyre, spokes), radius - 0.34 * half_width)


_DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]] = {
    "block": _box,
    "beam": _box,
    "post": _box,
    "triangle": _triangle,
    "dome": _dome,
    "ring": _ring,
    "star": _star,
    "wheel": _wheel,
}


def signed_distance(part: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance in object units to a part's outline, negative inside; u and v broadcast."""
    return _DISTANCES[part](u, v, *PART_EXTENTS[part])


def outline(part: str) -> np.ndarray:
    """Points [24, 2] of the part whose bounding box, under any rotation, is the part's (to about 1 %)."""
    half_width, half_height = PART_EXTENTS[part]
    if part in ("ring", "wheel"):
        angles = np.arange(24) * (2 * math.pi / 24)
        return half_width * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    if part == "star":
        angles = np.arange(24) % 5 * (2 * math.pi / 5)
        return half_width * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    if part == "dome":
        angles = np.linspace(0, math.pi, 24)
        return np.stack([half_width * np.cos(angles), half_width * np.sin(angles) - half_height], axis=1)
    if part == "triangle":
        corners = [(-half_width, -half_height), (half_width, -half_height), (0.0, half_height)]
        return np.array(corners * 8)
    corners = [
        (-half_width, -half_height),
        (half_width, -half_height),
        (half_width, half_height),
        (-half_width, half_height),
    ]
    return np.array(corners * 6)


# ----------------------------------------------------------------------------------------------------- textures
# Each: (u, v, frequency in periods a unit, angle, footprint in units a pixel) -> weight in [0, 1] of the second colour.
Texture = Callable[[np.ndarray, np.ndarray, float, float, float], np.ndarray]


def _rotate(u: np.ndarray, v: np.ndarray, frequency: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = math.cos(angle) * frequency, math.sin(angle) * frequency
    return u * cos + v * sin, v * cos - u * sin


def _plain(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    return np.zeros((1, 1), np.float32)


def _gradient(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    return np.clip(0.5 + 1.2 * (u * math.cos(angle) + v * math.sin(angle)), 0, 1)


def _stripes(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    across = u * (math.cos(angle) * frequency) + v * (math.sin(angle) * frequency)
    return 0.5 + 0.5 * square_wave(across, footprint * frequency)


def _checks(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    first, second = _rotate(u, v, 0.7 * frequency, angle)
    soft = footprint * 0.7 * frequency
    return 0.5 + 0.5 * square_wave(first, soft) * square_wave(second, soft)


def _dots(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    first, second = _rotate(u, v, frequency, angle)
    first, second = first - np.round(first), second - np.round(second)
    distance = np.sqrt(first * first + second * second) - 0.3
    return np.clip(0.5 - distance / (footprint * frequency), 0, 1)


def _clouded(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    first, second = _rotate(u, v, 1.5 * frequency, angle)
    return np.clip((noise(first + 16, second + 16) - 0.5) * 4 + 0.5, 0, 1)


def _zigzag(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    first, second = _rotate(u, v, frequency, angle)
    return 0.5 + 0.5 * square_wave(first + np.abs(second - np.floor(second) - 0.5), 1.4 * footprint * frequency)


def _circles(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    u, v = u - 0.3 * math.cos(angle), v - 0.3 * math.sin(angle)
    return 0.5 + 0.5 * square_wave(np.sqrt(u * u + v * v) * frequency, footprint * frequency)


def _net(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    first, second = _rotate(u, v, 0.8 * frequency, angle + 0.6)
    distance = np.minimum(np.abs(first - np.round(first)), np.abs(second - np.round(second))) - 0.12
    return np.clip(0.5 - distance / (footprint * frequency), 0, 1)


def _grain(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    first, second = _rotate(u, v, frequency, angle)
    return 0.5 + 0.5 * square_wave(
        first + 1.6 * noise(0.5 * first + 16, 0.25 * second + 16), 1.5 * footprint * frequency
    )


def _bricks(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    first, second = _rotate(u, v, 0.8 * frequency, angle)
    first = 0.6 * first + 0.5 * np.floor(second)
    distance = np.minimum(np.abs(first - np.round(first)) / 0.6, np.abs(second - np.round(second))) - 0.14
    return np.clip(0.5 - distance / (footprint * frequency), 0, 1)


def _wedges(u: np.ndarray, v: np.ndarray, frequency: float, angle: float, footprint: float) -> np.ndarray:
    first, second = _rotate(u, v, 0.7 * frequency, angle)
    slant = (first - np.floor(first)) - (second - np.floor(second))
    return np.clip(0.5 + slant / (footprint * frequency), 0, 1)


TEXTURES: dict[str, Texture] = {
    "plain": _plain,
    "gradient": _gradient,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "clouded": _clouded,
}
NEW_TEXTURES: dict[str, Texture] = {"zigzag": _zigzag, "circles": _circles, "net": _net, "grain": _grain}
# Those of them that look alike on a small part and on a wall, and two more.
PATTERNS: dict[str, Texture] = {
    **{name: texture for name, texture in TEXTURES.items() if name not in ("plain", "gradient")},
    "bricks": _bricks,
    "wedges": _wedges,
}


def pattern_frequency(draw: float) -> float:
    """Periods a metre of a pattern, log-uniform in 2.5 to 8, of a uniform number."""
    return 2.5 * 3.2**draw


class Material(NamedTuple):
    """What parts are made of: each carries one of the textures, in two colours whose hues lie in these ranges; or,
    where painted, in the two tones of its kind (`paints`)."""

    textures: tuple[Texture, ...]
    hues: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 1.0), (0.0, 1.0))
    painted: bool = False


STANDARD = Material(tuple(TEXTURES.values()))
NEW = Material(tuple(NEW_TEXTURES.values()))
# Ten materials to tell apart by any patch of them: a texture in two hues of its own.
MATERIALS: tuple[Material, ...] = tuple(
    Material((texture,), ((hue - 0.025, hue + 0.025), (hue + 0.425, hue + 0.475)))
    for hue, texture in zip(np.linspace(0, 0.9, 10).tolist(), (TEXTURES | NEW_TEXTURES).values(), strict=True)
)
# The same where paints tell the kind of part.
PATTERNED = Material(tuple(PATTERNS.values()), painted=True)
PATTERNED_MATERIALS: tuple[Material, ...] = tuple(
    Material((texture,), painted=True) for texture in (PATTERNS | NEW_TEXTURES).values()
)

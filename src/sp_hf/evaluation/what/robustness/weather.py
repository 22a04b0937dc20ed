"""ImageNet-C's weather (arXiv:1903.12261, section 3): snow, frost, fog, brightness.

Deviations. Frost is not pasted from photographs: crystals grow in textures drawn once (:func:`frost_texture`) and cut
out at random. Fog is a fractal of smooth noise whose octaves weaken by the published factor, in place of one by
midpoint displacement; it lies over the whole image, thicker here and thinner there, in place of leaving its thinnest
spots free (which the dimming then makes black), and severity 4 is thicker than 3 (as published, only rougher). Snow and
frost are drawn for 224 pixels and resized.

Letters: S pixels a side.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image

from .blur import PAPER_SIZE, convolve, streak

# Mean and deviation of the flakes' noise, width of a flake, threshold, half a streak's length and its deviation (pixels
# of a 224-pixel image), and how much of the scene's colour remains.
_SNOW = (
    (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
)
_FROST = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))  # weight of the image, of the frost
_FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.75, 1.5), (3.0, 1.4))  # thickness, decay from octave to octave
_THINNEST = 0.4  # part of the thickness that lies over the whole image
_BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to the value of HSV
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_FROST_TEXTURES = 5
_FROST_SIZE = 512


def resize(values: np.ndarray, size: int, method: Image.Resampling) -> np.ndarray:
    """Values [h, w] as float32 [S, S]."""
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize((size, size), method))


def plasma(size: int, decay: float, rng: np.random.Generator, coarsest: int = 2) -> np.ndarray:
    """Fractal noise in [0, 1], [S, S]: octaves of smooth noise, each twice as fine and `decay` times weaker."""
    total, weight, cells = np.zeros((size, size), np.float32), 1.0, coarsest
    while cells < size:
        total += weight * resize(rng.random((cells + 1, cells + 1), np.float32), size, Image.Resampling.BICUBIC)
        weight, cells = weight / decay, cells * 2
    total -= total.min()
    return total / total.max()


def fog(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A bright veil, thicker here and thinner there, dimmed so that the brightest value stays as it was."""
    thickness, decay = _FOG[severity - 1]
    brightest = float(image.max())
    veil = _THINNEST + (1 - _THINNEST) * plasma(image.shape[0], decay, rng)[..., None]
    veiled = image + np.float32(thickness) * veil
    return veiled * np.float32(brightest / (brightest + thickness))


def snow(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Flakes falling in streaks over a scene that they whiten."""
    mean, deviation, width, threshold, radius, fade, colour = _SNOW[severity - 1]
    cells = math.ceil(PAPER_SIZE / width)
    flakes = resize(rng.normal(mean, deviation, (cells, cells)), PAPER_SIZE, Image.Resampling.BILINEAR)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1)
    flakes = convolve(flakes, streak(2 * radius, fade, rng.uniform(math.pi / 4, 3 * math.pi / 4)))
    flakes = resize(flakes + np.rot90(flakes, 2), image.shape[0], Image.Resampling.BOX)
    whitened = np.maximum(image, (image @ _GREY)[..., None] * 1.5 + 0.5)
    return np.float32(colour) * image + np.float32(1 - colour) * whitened + flakes[..., None]


@functools.lru_cache(maxsize=_FROST_TEXTURES)
def frost_texture(number: int) -> np.ndarray:
    """A window with frost, float32 [512, 512, 3] in [0, 1]: needles grown from many points until they met.

    Each point's needles are ridges of noise that varies fast with the direction from the point and slowly with the
    distance to it; a fractal says how thick the ice is.
    """
    rng = np.random.Generator(np.random.Philox(key=[number, 0xF2057]))
    size = _FROST_SIZE
    rows, columns = np.indices((size, size), dtype=np.float32) / size
    bent_rows = rows + 0.12 * (plasma(size, 1.8, rng, 4) - 0.5)
    bent_columns = columns + 0.12 * (plasma(size, 1.8, rng, 4) - 0.5)
    points = rng.random((24, 2)) * 1.2 - 0.1
    places = np.stack([bent_rows, bent_columns], -1)[:, :, None] - points.astype(np.float32)  # [512, 512, points, 2]
    squared = (places**2).sum(-1)
    nearest = squared.argmin(-1)
    offset = np.take_along_axis(places, nearest[..., None, None], axis=2)[:, :, 0]
    distance = np.sqrt(squared.min(-1))
    angle = np.arctan2(offset[..., 0], offset[..., 1])
    needles = np.zeros((size, size), np.float32)
    for count, weight in ((9, 0.5), (23, 0.3), (61, 0.2)):
        phase = count * angle + 40 * distance + 4 * nearest
        needles += weight * (1 - np.abs(np.sin(phase))) ** 2
    thick = np.clip(2.2 * plasma(size, 1.5, rng, 4) - 0.5, 0, 1)
    glitter = plasma(size, 1.05, rng, 32)
    ice = np.clip(thick * (0.25 + 1.1 * needles) + 0.35 * (glitter - 0.3) * thick + 0.1, 0, 1)
    return (ice[..., None] * np.array([0.86, 0.95, 1.0]) + 0.04 * np.array([0.2, 0.6, 1.0])).astype(np.float32)


def frost(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A frozen window in front of the scene."""
    of_image, of_frost = _FROST[severity - 1]
    texture = frost_texture(int(rng.integers(_FROST_TEXTURES)))
    top, left = rng.integers(0, _FROST_SIZE - PAPER_SIZE, 2)
    cut = texture[top : top + PAPER_SIZE, left : left + PAPER_SIZE]
    paper = Image.fromarray((np.clip(cut, 0, 1) * 255).astype(np.uint8))
    size = image.shape[0]
    ice = np.asarray(paper.resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255
    return np.float32(of_image) * image + np.float32(of_frost) * ice


def brightness(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """More light: the value of HSV raised, hue and saturation kept."""
    value = image.max(-1, keepdims=True)
    raised = np.minimum(value + np.float32(_BRIGHTNESS[severity - 1]), 1)
    return np.where(value > 0, image * (raised / np.maximum(value, 1e-6)), raised)

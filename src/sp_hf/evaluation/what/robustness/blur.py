"""ImageNet-C's blurs (arXiv:1903.12261, section 3): out of focus, through frosted glass, by motion, by zooming.

Each is a mean of the image over displacements; a displacement by part of a pixel interpolates bilinearly, so that a
blur of the same part of the image exists at any size. Lengths below are pixels of a 224-pixel image; borders reflect.

Deviations. Defocus averages over a disc, without the published set's smoothing of the disc's rim. Glass draws one
displacement a pixel, with the distribution of the sum over the published iterations of swaps. Motion blur is a
one-sided Gaussian streak of the published length and standard deviation, as ImageMagick's.

Letters: S pixels a side, k kernel size (odd), N displacements.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image
from scipy import ndimage, signal

PAPER_SIZE = 224

_DEFOCUS = (3.0, 4.0, 6.0, 8.0, 10.0)  # radius
_GLASS = ((0.7, 1.0, 2), (0.9, 2.0, 1), (1.0, 2.0, 3), (1.1, 3.0, 2), (1.5, 4.0, 2))  # blur, displacement, iterations
_MOTION = ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))  # half the streak's length, standard deviation
_ZOOM = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # end (not reached) and step of zooms


def lengths_scale(image: np.ndarray) -> float:
    """S / 224: by what lengths stated for 224 pixels are multiplied."""
    return image.shape[0] / PAPER_SIZE


def displacement_kernel(y: np.ndarray, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The convolution kernel that averages an image over displacements.

    Args:
        y, x: [N] pixels, down and to the right.
        weights: [N]; only their proportions matter.

    Returns:
        float32 [k, k], sums to 1.
    """
    radius = int(max(np.ceil(np.abs(y).max()), np.ceil(np.abs(x).max()), 1))
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = y - top, x - left
    kernel = np.zeros((2 * radius + 2, 2 * radius + 2))
    for step_y, part_y in ((0, 1 - down), (1, down)):
        for step_x, part_x in ((0, 1 - right), (1, right)):
            np.add.at(kernel, (top + radius + step_y, left + radius + step_x), weights * part_y * part_x)
    kernel = kernel[:-1, :-1]  # the last ones only ever receive zeros
    return (kernel / kernel.sum()).astype(np.float32)


def convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve [S, S] or [S, S, C] with [k, k] over the first two axes, with reflecting borders."""
    pad = kernel.shape[0] // 2
    padded = np.pad(image, [(pad, pad)] * 2 + [(0, 0)] * (image.ndim - 2), mode="symmetric")
    kernel = kernel.reshape(kernel.shape + (1,) * (image.ndim - 2))
    return signal.fftconvolve(padded, kernel, mode="valid", axes=(0, 1)).astype(np.float32)


@functools.lru_cache(maxsize=32)
def _disc(radius: float) -> np.ndarray:
    steps = np.linspace(-radius, radius, 4 * math.ceil(radius) + 9)
    y, x = (axis.ravel() for axis in np.meshgrid(steps, steps))
    inside = y * y + x * x <= radius * radius
    return displacement_kernel(y[inside], x[inside], np.ones(inside.sum()))


def streak(length: float, deviation: float, angle: float) -> np.ndarray:
    """Kernel [k, k] of a streak that fades as one half of a Gaussian; lengths in pixels, angle in radians."""
    along = np.linspace(0, length, 4 * math.ceil(length) + 1)
    return displacement_kernel(
        along * math.sin(angle), along * math.cos(angle), np.exp(-0.5 * (along / deviation) ** 2)
    )


def warp(image: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Fetch each pixel of [S, S, C] from where displacements [S, S] (pixels) point, bilinearly; borders reflect."""
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    places = np.stack([rows + down, columns + right])
    channels = [
        ndimage.map_coordinates(image[..., c], places, order=1, mode="reflect", prefilter=False)
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


def defocus_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """The mean over a disc: a camera out of focus."""
    return convolve(image, _disc(_DEFOCUS[severity - 1] * lengths_scale(image)))


def glass_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Neighbouring pixels scattered, between two slight blurs: frosted glass."""
    deviation, furthest, iterations = _GLASS[severity - 1]
    scale = lengths_scale(image)
    sigma = (deviation * scale, deviation * scale, 0)
    scatter = rng.uniform(-furthest * scale, furthest * scale, (iterations, 2, *image.shape[:2])).sum(0)
    scattered = warp(ndimage.gaussian_filter(image, sigma), *scatter.astype(np.float32))
    return ndimage.gaussian_filter(scattered, sigma)


def motion_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """A streak at a random angle of +-45 degrees: the camera moves."""
    radius, deviation = _MOTION[severity - 1]
    scale = lengths_scale(image)
    return convolve(image, streak(2 * radius * scale, deviation * scale, rng.uniform(-math.pi / 4, math.pi / 4)))


def zoom_blur(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """The mean over zooms into the middle: the camera comes nearer."""
    size = image.shape[0]
    picture = Image.fromarray((image * 255 + 0.5).astype(np.uint8))
    total = image.copy()  # once as it is, once for each zoom (the first of which is 1)
    zooms = np.arange(1, *_ZOOM[severity - 1]).tolist()
    for zoom in zooms:
        margin = (size - size / zoom) / 2
        box = (margin, margin, size - margin, size - margin)
        total += np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box), np.float32) / 255
    return total / (len(zooms) + 1)

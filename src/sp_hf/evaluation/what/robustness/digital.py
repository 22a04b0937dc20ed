"""ImageNet-C's digital corruptions (arXiv:1903.12261, section 3): contrast, elastic, pixelation, JPEG.

Deviation: the elastic transformation. "Elastic transformations stretch or contract small image regions": each pixel is
fetched from a place displaced by smoothed noise. The published constants change the smoothing so much from one severity
to the next that severity 3 lies nearer to the clean image than 2; here the displacement grows with every severity and
its smoothing is that of small regions throughout. As published, a slight random affine map comes on top.

Letters: S pixels a side.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from .blur import lengths_scale, warp

_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # of the distance from the mean
_PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)  # of the resolution
_JPEG = (25, 18, 15, 10, 7)  # quality
# Displacement (root mean square, along each axis) and the Gaussian it is smoothed with, in pixels of a 224-pixel image.
_ELASTIC = ((1.0, 10.0), (1.5, 8.0), (2.0, 6.5), (2.6, 5.5), (3.3, 5.0))
_AFFINE = 0.02  # part of the side by which the corners move, at most


def contrast(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Every channel nearer to its mean."""
    mean = image.mean((0, 1))
    return mean + (image - mean) * np.float32(_CONTRAST[severity - 1])


def elastic_transform(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Small regions stretched and contracted."""
    size = image.shape[0]
    length, smoothing = (value * lengths_scale(image) for value in _ELASTIC[severity - 1])
    noise = ndimage.gaussian_filter(rng.uniform(-1, 1, (2, size, size)).astype(np.float32), (0, smoothing, smoothing))
    displacement = noise * (length / np.sqrt((noise**2).mean((1, 2), keepdims=True)))
    across = np.linspace(-1, 1, size, dtype=np.float32)
    affine = rng.uniform(-_AFFINE * size, _AFFINE * size, (2, 3)).astype(np.float32)
    for axis, (shift, by_row, by_column) in enumerate(affine / 3):
        displacement[axis] += shift + by_row * across[:, None] + by_column * across
    return warp(image, *displacement)


def pixelate(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Fewer, larger pixels."""
    size = image.shape[0]
    coarse = max(1, int(size * _PIXELATE[severity - 1]))
    picture = _picture(image).resize((coarse, coarse), Image.Resampling.BOX)
    return np.asarray(picture.resize((size, size), Image.Resampling.NEAREST), np.float32) / 255


def jpeg_compression(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """The artefacts of strong JPEG compression."""
    buffer = io.BytesIO()
    _picture(image).save(buffer, "JPEG", quality=_JPEG[severity - 1])
    with Image.open(buffer) as decoded:
        return np.asarray(decoded, np.float32) / 255


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray((image * 255 + 0.5).astype(np.uint8))

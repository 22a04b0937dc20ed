"""ImageNet-C's noise corruptions (arXiv:1903.12261, section 3): of the sensor, of photons, of single values.

Values are drawn for each pixel and channel; strengths do not depend on the size of the image.
"""

from __future__ import annotations

import numpy as np

_GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of the range of values
_SHOT = (60.0, 25.0, 12.0, 5.0, 3.0)  # photons of a white pixel
_IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)  # fraction of values replaced


def gaussian_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Independent normal noise, as in low light."""
    return image + np.float32(_GAUSSIAN[severity - 1]) * rng.standard_normal(image.shape, np.float32)


def shot_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Poisson noise: light comes in photons."""
    photons = _SHOT[severity - 1]
    return rng.poisson(image * photons).astype(np.float32) / np.float32(photons)


def impulse_noise(image: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Salt and pepper in equal parts, each channel by itself."""
    amount = _IMPULSE[severity - 1]
    draws = rng.random(image.shape, np.float32)
    return np.where(draws < amount, (draws < amount / 2).astype(np.float32), image)

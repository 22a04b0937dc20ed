"""The fifteen corruptions of ImageNet-C at five severities, made on the fly.

Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations",
arXiv:1903.12261, section 3 and appendix A: four groups (noise, blur, weather, digital), each corruption at severities
1 to 5. The strengths are those of the authors' published set, which is made for images of 224 pixels.

    corrupt(image, name, severity, key)      a pure function: no files, no state, nothing depends on the batch

Random numbers come from a counter-based generator keyed by (key of the image, corruption, severity).

At S pixels a side. Every length (blur radii, displacements, flakes, streaks) is scaled by S / 224, so that the same
part of the image is affected; sub-pixel lengths take part by bilinear interpolation. Per-pixel noise, brightness and
contrast have no length and keep their strength; so does zoom, a ratio. Pixelate keeps the published fraction of the
resolution (blocks of 1.7 to 4 pixels), and JPEG's blocks are 8 pixels at any size. Noise, pixelate and JPEG are
therefore harsher at small sizes.

Deviations, none of which changes what a corruption is (each file says more): frost, fog and motion blur are
procedural, in place of photographs of frost, of midpoint displacement and of ImageMagick; elastic and fog follow a
ladder that grows with severity, which the published ones do not throughout. So metrics compare models measured with
this code, and not with published ImageNet-C tables.

Letters: n images, S pixels a side.
"""

from __future__ import annotations

import numbers
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from ....errors import InputError
from .blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from .digital import contrast, elastic_transform, jpeg_compression, pixelate
from .noise import gaussian_noise, impulse_noise, shot_noise
from .weather import brightness, fog, frost, snow

MIN_SIZE = 32
SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)

# float32 [S, S, 3] in [0, 1], severity, random numbers -> [S, S, 3], which `corrupt` clips to [0, 1].
Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

GROUPS: dict[str, dict[str, Corruption]] = {
    "noise": {"gaussian_noise": gaussian_noise, "shot_noise": shot_noise, "impulse_noise": impulse_noise},
    "blur": {
        "defocus_blur": defocus_blur,
        "glass_blur": glass_blur,
        "motion_blur": motion_blur,
        "zoom_blur": zoom_blur,
    },
    "weather": {"snow": snow, "frost": frost, "fog": fog, "brightness": brightness},
    "digital": {
        "contrast": contrast,
        "elastic_transform": elastic_transform,
        "pixelate": pixelate,
        "jpeg_compression": jpeg_compression,
    },
}
CORRUPTIONS: dict[str, Corruption] = {name: function for group in GROUPS.values() for name, function in group.items()}


class CorruptionError(InputError):
    """An unknown corruption or severity, or images that cannot be corrupted."""


def corrupt(images: np.ndarray, name: str, severity: int, keys: int | Sequence[int]) -> np.ndarray:
    """Corrupted copies of images.

    Args:
        images: uint8 [n, S, S, 3], or one image [S, S, 3].
        name: one of CORRUPTIONS.
        severity: 1 to 5.
        keys: one whole number an image (one number for one image). The same image, key, corruption and severity give
            the same pixels, in whatever batch.

    Returns:
        uint8, of the shape of images.

    Raises:
        CorruptionError: unknown name or severity, images that are not square uint8 RGB of 32 pixels or more, or not
            one key an image.
    """
    check_corruption(name, severity)
    images = np.asarray(images)
    single = images.ndim == 3
    batch = images[None] if single else images
    each = [int(keys)] if isinstance(keys, (int, numbers.Integral)) else list(keys)
    _check_images(batch, len(each))
    copies = [_corrupt_one(image, name, severity, key) for image, key in zip(batch, each, strict=True)]
    return copies[0] if single else np.stack(copies) if copies else batch.copy()


def check_corruption(name: str, severity: int) -> None:
    """Whether there is such a corruption at such a severity.

    Raises:
        CorruptionError: there is not.
    """
    if name not in CORRUPTIONS:
        raise CorruptionError(f"there is no corruption {name!r}; choose one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise CorruptionError(f"severity={severity!r}; the severities are 1 to 5")


def _check_images(batch: np.ndarray, keys: int) -> None:
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[-1] != 3 or batch.shape[1] != batch.shape[2]:
        raise CorruptionError(
            f"corruptions take square uint8 RGB images [n, S, S, 3]; got {batch.dtype} {list(batch.shape)}"
        )
    if batch.shape[1] < MIN_SIZE:
        raise CorruptionError(f"images of {batch.shape[1]} pixels; corruptions need {MIN_SIZE} or more")
    if keys != len(batch):
        raise CorruptionError(f"{keys} keys for {len(batch)} images; give one key an image")


def _corrupt_one(image: np.ndarray, name: str, severity: int, key: int) -> np.ndarray:
    words = [int(key) % 2**64, zlib.crc32(name.encode()) * len(SEVERITIES) + severity - 1]
    rng = np.random.Generator(np.random.Philox(key=np.array(words, np.uint64)))
    corrupted = CORRUPTIONS[name](image.astype(np.float32) / 255, severity, rng)
    return (np.clip(corrupted, 0, 1) * 255 + 0.5).astype(np.uint8)

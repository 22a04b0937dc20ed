"""Images that visitors upload: decoded with bounds, or refused in one sentence.

Every image is squashed onto a square, as all models here see it, with its aspect ratio kept beside it to show it in.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.canvas import UnreadableImage, decode
from ..errors import InputError

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 40_000_000
MIN_SIDE = 16
MAX_ASPECT = 8
SHOWN = 480
"""Longer side in px of the pictures that are sent back."""


class UploadError(InputError):
    """An image that cannot be used; the message is for the visitor."""


@dataclasses.dataclass(frozen=True)
class Upload:
    """An image of a visitor's, upright, RGB, and at most 2 x SHOWN px a side.

    Args:
        image: as it is.
    """

    image: Image.Image

    @property
    def shape(self) -> tuple[int, int]:
        """(width, height) in px in which pictures of it are shown."""
        return fit_within(self.image.size, SHOWN)

    def square(self, size: int) -> Tensor:
        """The whole image squashed: uint8 [3, size, size]."""
        squashed = self.image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0)
        return torch.from_numpy(np.asarray(squashed).transpose(2, 0, 1).copy())

    def unsquash(self, square: Tensor) -> Image.Image:
        """A picture uint8 [3, S, S] of the squashed image, in the image's own shape."""
        picture = Image.fromarray(square.permute(1, 2, 0).contiguous().numpy())
        return picture.resize(self.shape, Image.Resampling.BICUBIC)


def fit_within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(width, height) of the same shape whose longer side is ``longest``."""
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def open_upload(path: str | os.PathLike | None) -> Upload:
    """Read an uploaded file.

    Raises:
        UploadError: no file, too large a file, no image of a known format, or one of too many or too few pixels.
    """
    if path is None:
        raise UploadError("There is no image yet: upload one, or choose one of the examples.")
    size = Path(path).stat().st_size
    if size > MAX_BYTES:
        raise UploadError(f"This file has {size / 2**20:.0f} MB; the limit is {MAX_BYTES // 2**20} MB.")
    try:
        image = decode(Path(path).read_bytes(), 2 * SHOWN, max_pixels=MAX_PIXELS)
    except UnreadableImage as error:
        raise UploadError(_explain(error.reason)) from error
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise UploadError(f"This image is {width} x {height} px; it must be at least {MIN_SIDE} px a side.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UploadError(f"This image is {width} x {height} px; one side may be {MAX_ASPECT} times the other at most.")
    if max(width, height) > 2 * SHOWN:
        image = image.resize(fit_within(image.size, 2 * SHOWN), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return Upload(image)


def _explain(reason: str) -> str:
    if "DecompressionBomb" in reason or "over the limit" in reason:
        return f"This image is too large; the limit is {MAX_PIXELS // 10**6} megapixels."
    if "cannot identify" in reason:
        return "This file is no image that can be read here: JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF can, SVG cannot."
    return "This image is damaged, and cannot be decoded."

"""Annotations that are stored as images: class ids and depths, read as they are.

Nothing is converted to RGB or to 8 bits: the ids of an indexed PNG stay indices into its palette, 16-bit and 32-bit
whole numbers and 32-bit floats keep their values. EXIF orientation is applied, as it is to images. Formats that lose
values (JPEG) and images of colours are refused, since neither holds a number a pixel.

Letters: H, W height and width in px.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from .canvas import (
    _UPRIGHT,
    MAX_PIXELS,
    ImageLike,
    UnreadableImage,
    _open,
    _orientation,
    _read,
    image_name,
)

_SWAPPING = (  # of width and height
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
)

_LOSSY = ("JPEG", "MPO")
_MODES = ("1", "L", "P", "I", "F")  # and I;16 in its byte orders: one number a pixel


class AnnotationError(DataError):
    """An annotation of the wrong kind: colours, or a format that does not keep values."""


class Size(NamedTuple):
    """Of an upright image, in px."""

    width: int
    height: int


def voc_colours() -> np.ndarray:
    """PASCAL VOC's colour of each class id, uint8 [256, 3]: bits 0, 3 and 6 of the id are the highest three of red,
    bits 1, 4 and 7 of green, bits 2 and 5 of blue."""
    ids, colours = np.arange(256), np.zeros((256, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            colours[:, channel] |= ((ids >> (3 * level + channel) & 1) << (7 - level)).astype(np.uint8)
    return colours


def decode_annotation(
    image: ImageLike, *, max_pixels: int = MAX_PIXELS, colours: np.ndarray | None = None
) -> np.ndarray:
    """The values of an annotation, upright.

    Args:
        image: as for :func:`~sp_hf.data.canvas.decode`.
        max_pixels: larger ones are refused, judged by their header.
        colours: uint8 [ids, 3], of which an image of colours is read; ``None``: such images are refused.

    Returns:
        [H, W], int64 for whole numbers, float32 for floats.

    Raises:
        UnreadableImage: it cannot be decoded.
        AnnotationError: it does not hold one number a pixel, or a colour that is none of ``colours``.
    """
    name = image_name(image)
    try:
        opened = _opened(image, name, max_pixels)
        if opened.format in _LOSSY:
            raise AnnotationError(f"{name} is a {opened.format}, which does not keep values; save it as PNG or TIFF")
        opened.load()
        upright = _UPRIGHT.get(_orientation(opened))
        opened = opened if upright is None else opened.transpose(upright)
    except (UnreadableImage, AnnotationError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(name, "cannot identify it as an image") from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly any class
        raise UnreadableImage(name, f"{type(error).__name__}: {error}") from error
    if colours is not None and opened.mode in ("RGB", "RGBA"):
        return _ids_of(np.asarray(opened.convert("RGB")), colours, name)
    if opened.mode not in _MODES and not opened.mode.startswith("I;16"):
        raise AnnotationError(
            f"{name} holds {opened.mode} pixels, but an annotation holds one number a pixel: ids or depths as grey or"
            " indexed PNG, or as TIFF"
        )
    return np.asarray(opened).astype(np.float32 if opened.mode == "F" else np.int64)


def upright_size(image: ImageLike, *, max_pixels: int = MAX_PIXELS) -> Size:
    """Width and height of an image, by its header alone.

    Raises:
        UnreadableImage: the header cannot be read.
    """
    name = image_name(image)
    try:
        opened = _opened(image, name, max_pixels)
        width, height = opened.size
        upright = _UPRIGHT.get(_orientation(opened))
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:  # see above
        raise UnreadableImage(name, f"{type(error).__name__}: {error}") from error
    return Size(height, width) if upright is not None and upright in _SWAPPING else Size(width, height)


def _ids_of(pixels: np.ndarray, colours: np.ndarray, name: str) -> np.ndarray:
    """Of colours uint8 [H, W, 3] the ids int64 [H, W]."""
    number = np.array([1 << 16, 1 << 8, 1])
    known, seen = colours.astype(np.int64) @ number, pixels.astype(np.int64) @ number
    order = np.argsort(known)
    ids = order[np.searchsorted(known, seen, sorter=order).clip(max=len(known) - 1)]
    strange = known[ids] != seen
    if strange.any():
        raise AnnotationError(f"{name} has the colour {pixels[strange][0].tolist()}, which stands for no class")
    return ids


def _opened(image: ImageLike, name: str, max_pixels: int) -> Image.Image:
    if isinstance(image, Image.Image | np.ndarray):
        return _open(image, name, max_pixels)
    return _open(io.BytesIO(_read(image, name)), name, max_pixels)

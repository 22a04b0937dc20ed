"""Decodes image files of every kind to RGB, and makes the canvas that training keeps of each image.

The canvas is the WHOLE image squashed onto a uint8 square ``[3, S, S]``, with its aspect ratio kept beside it.
Boxes live in the image's normalised coordinates, which squashing does not change; a crop undoes the squash.

Conventions:

- EXIF orientation is applied; the aspect ratio is that of the upright image.
- Transparent pixels are composited onto white, as a page would show them.
- 16-bit grey is divided by 257, so that its full range fills 0..255; wider integers and floats outside [0, 1]
  are stretched from their own minimum and maximum.
- Only the first frame of an animation is read. Colour profiles are ignored.
- A JPEG much larger than the canvas is decoded at 1/2, 1/4 or 1/8 scale (in the DCT domain), never below the canvas.

Letters: S canvas side in px.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..errors import DataError, InputError
from .jpeg import decode_jpeg

MAX_PIXELS = 89_478_485
"""Images with more pixels than this are refused before they are decoded (0.25 GiB of RGB, Pillow's own bound)."""

ImageLike = bytes | bytearray | str | os.PathLike | Image.Image | np.ndarray | Mapping[str, Any]

# Formats that Pillow decodes itself. Left out on purpose: those that start other programs (EPS) or read other files.
_WANTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "QOI")
Image.init()
_FORMATS = tuple(name for name in _WANTED_FORMATS if name in Image.OPEN)

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SWAPPING = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
)
_TURNS: dict[Image.Transpose, Callable[[np.ndarray], np.ndarray]] = {  # of planes [..., H, W], without a copy
    Image.Transpose.FLIP_LEFT_RIGHT: lambda planes: planes[..., ::-1],
    Image.Transpose.ROTATE_180: lambda planes: planes[..., ::-1, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda planes: planes[..., ::-1, :],
    Image.Transpose.TRANSPOSE: lambda planes: planes.swapaxes(-1, -2),
    Image.Transpose.TRANSVERSE: lambda planes: planes.swapaxes(-1, -2)[..., ::-1, ::-1],
    Image.Transpose.ROTATE_90: lambda planes: planes.swapaxes(-1, -2)[..., ::-1, :],
    Image.Transpose.ROTATE_270: lambda planes: planes.swapaxes(-1, -2)[..., ::-1],
}


class UnreadableImage(DataError):
    """An image that cannot be used: missing, truncated, not an image, or a decompression bomb.

    Attributes:
        name: what the image is called (see :func:`image_name`).
        reason: what is wrong with it.
    """

    def __init__(self, name: str, reason: str = "") -> None:  # one argument must do: DataLoader rebuilds it so
        super().__init__(f"{name}: {reason}" if reason else name)
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class _Loaded(NamedTuple):
    """Decoded pixels, as stored (not yet upright)."""

    rgb: Image.Image | np.ndarray  # uint8 [H, W, 3]
    extent: tuple[float, float]  # the true image's width and height in ``rgb``'s pixels: drafting rounds sizes up
    size: tuple[int, int]  # true (width, height) as stored
    upright: Image.Transpose | None  # what makes it upright


def image_name(image: ImageLike | None) -> str:
    """A stable name for reports: its path where it has one, and a digest of its bytes where it carries them."""
    if isinstance(image, Mapping):
        path, data = image.get("path"), image.get("bytes")
    elif isinstance(image, bytes | bytearray):
        path, data = None, image
    elif isinstance(image, str | os.PathLike):
        path, data = os.fspath(image), None
    else:
        path, data = getattr(image, "filename", None) or None, None
    digest = f"sha1 {hashlib.sha1(data, usedforsecurity=False).hexdigest()[:12]}" if data is not None else None
    return " ".join(part for part in (path, f"({digest})" if path and digest else digest) if part) or "image"


def image_digest(image: ImageLike) -> int:
    """64 bits that are equal for equal images: of the encoded file, or of the pixels of an image in memory.

    The same picture in another encoding has another digest.

    Raises:
        UnreadableImage: no such file, or a row without an image.
    """
    if isinstance(image, Image.Image):
        image = np.asarray(image)
    if isinstance(image, np.ndarray):
        digest = hashlib.blake2b(f"{image.dtype} {image.shape}".encode(), digest_size=8)
        digest.update(np.ascontiguousarray(image).data)
    else:
        digest = hashlib.blake2b(_read(image, image_name(image)), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def decode(image: ImageLike, draft_size: int | None = None, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Upright 8-bit RGB image.

    Args:
        image: encoded bytes, a path (or URL that ``datasets`` can open), a PIL image, a uint8 array [H, W] or
            [H, W, 3 or 4], or the ``{"bytes", "path"}`` dict of a ``datasets`` image column that is not decoded.
        draft_size: decode a JPEG at reduced scale, neither side below this many px. ``None``: full size.
        max_pixels: larger images are refused, judged by their header.

    Raises:
        UnreadableImage: the image cannot be decoded; names the image and the reason.
    """
    loaded = _load(image, draft_size, max_pixels)
    rgb = Image.fromarray(loaded.rgb) if isinstance(loaded.rgb, np.ndarray) else loaded.rgb
    return rgb if loaded.upright is None else rgb.transpose(loaded.upright)


def make_canvas(image: ImageLike, size: int, *, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, float]:
    """The whole image squashed onto a square by an antialiased resize, and its aspect ratio.

    Args:
        image: as for :func:`decode`.
        size: side of the canvas in px.
        max_pixels: as for :func:`decode`.

    Returns:
        canvas: uint8 [3, S, S], contiguous.
        aspect: width / height of the true, upright image (of its full size, also when drafted).

    Raises:
        UnreadableImage: the image cannot be decoded.
        ValueError: ``size`` is not positive.
    """
    if size < 1:
        raise InputError(f"canvas size is {size}; it must be at least 1 px")
    loaded = _load(image, size, max_pixels)
    rgb = loaded.rgb if isinstance(loaded.rgb, np.ndarray) else np.array(loaded.rgb)  # [H, W, 3]
    planes = _squash(rgb, loaded.extent, size)  # [3, S, S], channels last in memory
    width, height = loaded.size
    if loaded.upright is not None:
        planes = _TURNS[loaded.upright](planes)
        if loaded.upright in _SWAPPING:
            width, height = height, width
    return np.ascontiguousarray(planes), width / height


def _squash(rgb: np.ndarray, extent: tuple[float, float], size: int) -> np.ndarray:
    """What lies within ``extent`` from the upper left of uint8 [H, W, 3], on a square uint8 [3, S, S].

    By torch's antialiased bicubic vector instructions: faster than Pillow's, the same values up to rounding.
    """
    if rgb.shape[:2] == (size, size) == extent:
        return rgb.transpose(2, 0, 1)
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None]  # [1, 3, H, W], channels last in memory
    scales = size / extent[1], size / extent[0]
    return torch.ops.aten._upsample_bicubic2d_aa(pixels, [size, size], False, *scales)[0].numpy()


def _load(image: ImageLike, draft_size: int | None, max_pixels: int) -> _Loaded:
    name = image_name(image)
    encoded: Image.Image | np.ndarray | io.BytesIO
    data = None
    if isinstance(image, Image.Image | np.ndarray):
        encoded, draft_size = image, None  # drafting would change the caller's image
    else:
        data = _read(image, name)
        encoded = io.BytesIO(data)
    try:
        return _load_opened(_open(encoded, name, max_pixels), draft_size, data)
    except (UnreadableImage, MemoryError):
        raise
    except UnidentifiedImageError as error:  # its own message holds a memory address: never twice the same
        raise UnreadableImage(name, f"cannot identify it as an image ({', '.join(_FORMATS)})") from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly any class
        raise UnreadableImage(name, f"{type(error).__name__}: {error}") from error


def _read(image: bytes | bytearray | str | os.PathLike | Mapping[str, Any] | None, name: str) -> bytes:
    """The file of an image that is still encoded. A failing network is not the image's fault: it raises as it is."""
    if isinstance(image, Mapping):
        data, image = image.get("bytes"), image.get("path")
        if data is not None:
            return data
    if image is None:
        raise UnreadableImage(name, "the row has no image (neither bytes nor a path)")
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    path = os.fspath(image)
    try:
        if "://" not in path:
            return Path(path).read_bytes()
        from datasets.utils.file_utils import xopen  # hf://, https://, zip:// with retries, as datasets reads them

        with xopen(path, "rb") as file:
            return file.read()
    except OSError as error:
        if "://" in path and not isinstance(error, FileNotFoundError):
            raise
        raise UnreadableImage(name, f"{type(error).__name__}: {error}") from error


def _open(encoded: io.BytesIO | Image.Image | np.ndarray, name: str, max_pixels: int) -> Image.Image:
    """Read the header only, and refuse what is too large to decode."""
    if isinstance(encoded, Image.Image):
        opened = encoded
    elif isinstance(encoded, np.ndarray):
        opened = Image.fromarray(encoded)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(encoded, formats=_FORMATS)
    width, height = opened.size
    if width < 1 or height < 1:
        raise UnreadableImage(name, f"has no pixels ({width}x{height})")
    if width * height > max_pixels:
        limit = f"the limit of {max_pixels} pixels (decompression bomb?)"
        raise UnreadableImage(name, f"{width}x{height} px is over {limit}")
    return opened


def _load_opened(opened: Image.Image, draft_size: int | None, data: bytes | None) -> _Loaded:
    size = opened.size
    extent = None
    if draft_size is not None and opened.format in ("JPEG", "MPO"):
        drafted = opened.draft(None, (draft_size, draft_size))
        extent = None if drafted is None else drafted[1][2:]
    rgb: Image.Image | np.ndarray | None = None if data is None else decode_jpeg(data, opened)
    if rgb is None:
        opened.load()
        rgb = _to_rgb(opened)
        size = opened.size if extent is None else size  # some decoders (TIFF) turn the image upright while loading
    return _Loaded(rgb, extent or (float(size[0]), float(size[1])), size, _UPRIGHT.get(_orientation(opened)))


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1  # metadata that cannot be parsed says nothing, and the pixels are fine


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode[0] in "IF":  # I, I;16, I;16B, F: Pillow would clip these at 255
        return Image.fromarray(_to_8bit(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_8bit(values: np.ndarray) -> np.ndarray:
    """Grey of high bit depth -> uint8 (see the conventions above)."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise InputError("its pixels are not all finite numbers")
    whole = np.issubdtype(values.dtype, np.integer)
    if whole and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    elif not whole and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    span = high - low or 1.0  # a constant image becomes black
    return np.rint((values.astype(np.float64) - low) * (255.0 / span)).astype(np.uint8)

"""Files that a visitor may upload, and should not: name -> (file name, bytes)."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def _encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def _photo(width: int = 96, height: int = 64) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred KB, all black, that claims (and has) very many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer, rows = zlib.compressobj(9), []
    row = b"\0" * (1 + 3 * width)
    rows = [packer.compress(row) for _ in range(height)]
    data = b"".join(rows) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def claims(width: int, height: int) -> bytes:
    """A PNG whose header alone claims so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + _chunk(b"IEND", b"")
    )


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><script>alert(1)</script></svg>'

REFUSED: dict[str, tuple[str, bytes, str]] = {
    "bomb": ("bomb.png", claims(60_000, 60_000), "too large"),
    "100 megapixels": ("large.png", bomb(10_000, 10_000), "too large"),
    "1 pixel": ("dot.png", _encoded(Image.new("RGB", (1, 1)), "PNG"), "at least 16 px"),
    "a line": ("line.png", _encoded(Image.new("RGB", (2000, 20)), "PNG"), "8 times the other"),
    "svg": ("picture.svg", SVG, "no image that can be read"),
    "svg in disguise": ("picture.png", SVG, "no image that can be read"),
    "text in disguise": ("notes.jpg", b"not an image at all", "no image that can be read"),
    "nothing": ("empty.png", b"", "no image that can be read"),
    "truncated": ("half.jpg", _encoded(_photo(), "JPEG")[:700], "damaged"),
    "script": (
        "picture.eps",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\nshowpage\n",
        "no image that can be read",
    ),
}
"""What is refused, and what the visitor is told."""

TAKEN: dict[str, tuple[str, bytes]] = {
    "photo": ("photo.jpg", _encoded(_photo(), "JPEG")),
    "cmyk": ("print.jpg", _encoded(_photo().convert("CMYK"), "JPEG")),
    "png that is called jpg": ("wrong.jpg", _encoded(_photo(), "PNG")),
    "animation": (
        "moving.gif",
        _encoded(_photo(), "GIF", save_all=True, append_images=[Image.new("RGB", (96, 64), "red")] * 3, duration=50),
    ),
    "transparent": ("clear.png", _encoded(Image.new("RGBA", (64, 64), (200, 30, 30, 90)), "PNG")),
    "16 bit": ("deep.png", _encoded(Image.fromarray(np.full((40, 40), 30_000, np.uint16)), "PNG")),
}
"""What is odd, and works."""

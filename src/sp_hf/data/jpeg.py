"""JPEG to pixels by libjpeg-turbo: directly where simplejpeg is installed, else through Pillow.

Both drive the same library with the same settings (the accurate transform, smooth chroma), so pixels are bit-identical;
simplejpeg spares Pillow's copies (``pip install simplejpeg``).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

DECODER = "Pillow" if simplejpeg is None else "simplejpeg"


def decode_jpeg(data: bytes, opened: Image.Image) -> np.ndarray | None:
    """Pixels uint8 [H, W, 3] of a JPEG whose header Pillow has read, at the size that it was drafted to.

    Args:
        data: the file.
        opened: its header, not loaded.

    Returns:
        ``None`` where Pillow is to decode it: simplejpeg is not installed, the file is of another kind, or damaged, of
        which Pillow is the judge.
    """
    if simplejpeg is None or opened.format not in ("JPEG", "MPO") or opened.mode not in ("RGB", "L"):
        return None
    width, height = opened.size
    try:
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=False, fastupsample=False, min_height=height, min_width=width
        )
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None

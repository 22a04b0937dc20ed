"""Pictures of maps of patches, and images as addresses that a page can show."""

from __future__ import annotations

import io
from base64 import b64encode

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .patches import PatchMaps
from .uploads import Upload

_UNDER = "#101418"  # below every line, lest it vanish on a picture of its colour
_CHOSEN = "#39e6ff"


def draw_similarity(upload: Upload, maps: PatchMaps) -> Image.Image:
    """The image under its similarity map; the chosen patch framed."""
    values = maps.similarity.numpy()
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low if high > low else 1)
    colours = (matplotlib.colormaps["inferno"](scaled)[..., :3] * 255).astype(np.uint8)
    image = upload.image.resize(upload.shape, Image.Resampling.BICUBIC)
    heat = Image.fromarray(colours).resize(image.size, Image.Resampling.BICUBIC)
    shown = Image.blend(image.convert("L").convert("RGB"), heat, 0.72)
    rows, columns = values.shape
    width, height = shown.width / columns, shown.height / rows
    row, column = maps.chosen
    box = (column * width + 1, row * height + 1, (column + 1) * width - 2, (row + 1) * height - 2)
    _rectangle(ImageDraw.Draw(shown), box, _CHOSEN, 3)
    return shown


def draw_components(upload: Upload, maps: PatchMaps) -> Image.Image:
    """The first three principal components of the patch tokens."""
    colours = Image.fromarray((maps.components.numpy() * 255).astype(np.uint8))
    return colours.resize(upload.shape, Image.Resampling.NEAREST)


def data_url(square: Tensor) -> str:
    """A picture uint8 [3, S, S] as an address."""
    return image_url(Image.fromarray(square.permute(1, 2, 0).contiguous().to(torch.uint8).numpy()))


def image_url(image: Image.Image) -> str:
    """An image as a data URL (JPEG)."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"


def _rectangle(draw: ImageDraw.ImageDraw, box: tuple[float, ...], colour: str, width: int) -> None:
    left, top, right, bottom = box
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_UNDER, width=width + 2)
    draw.rectangle((left, top, right, bottom), outline=colour, width=width)

"""Pictures for people, drawn with Pillow: frames of tiles, boxes, maps of patches."""

from __future__ import annotations

import io
from base64 import b64encode

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .jigsaw import Solved, picture
from .patches import PatchMaps
from .uploads import Upload
from .where import Located

RIGHT, WRONG = "#22a06b", "#e5484d"
FIRST, SECOND, PREDICTED = "#ffffff", "#ffd23f", "#ff4fa3"
_UNDER = "#101418"  # below every line, lest it vanish on a picture of its colour


def draw_solved(upload: Upload, solved: Solved) -> Image.Image:
    """The image as the model puts it back: right tiles framed in green, wrong ones in red with a cross."""
    shown = upload.unsquash(picture(upload, solved.cut, solved.placed))
    draw, grid = ImageDraw.Draw(shown), solved.cut.puzzle.grid
    width, height = shown.width / grid, shown.height / grid
    for place, right in enumerate(solved.cut.right(solved.placed).tolist()):
        left, top = place % grid * width, place // grid * height
        box = (left + 4, top + 4, left + width - 5, top + height - 5)
        _rectangle(draw, box, RIGHT if right else WRONG, 3)
        _label(draw, (left + 10, top + 10), f"{100 * solved.confidence[place]:.0f} %", "white")
    return shown


def draw_located(upload: Upload, located: Located) -> Image.Image:
    """The two boxes, and where the second is thought to be."""
    shown = upload.image.resize(upload.shape, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(shown)
    boxes = {"1": (located.first, FIRST), "2": (located.second, SECOND), "2?": (located.predicted, PREDICTED)}
    for name, (box, colour) in boxes.items():
        cx, cy, w, h = box.tolist()
        corners = [(cx - w / 2) * shown.width, (cy - h / 2) * shown.height]
        corners += [(cx + w / 2) * shown.width, (cy + h / 2) * shown.height]
        kept = tuple(min(max(value, 1), end - 2) for value, end in zip(corners, shown.size * 2, strict=True))
        _rectangle(draw, kept, colour, 4)
        _label(draw, (kept[0] + 7, kept[1] + 7), name, colour)
    return shown


def draw_crops(located: Located) -> Image.Image:
    """The two crops side by side, as the model sees them."""
    side = 220
    sheet = Image.new("RGB", (2 * side + 12, side), "#808890")
    for index, crop in enumerate(located.crops):
        one = Image.fromarray(crop.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(one, (index * (side + 12), 0))
    return sheet


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
    _rectangle(
        ImageDraw.Draw(shown),
        (column * width + 1, row * height + 1, (column + 1) * width - 2, (row + 1) * height - 2),
        "#39e6ff",
        3,
    )
    return shown


def draw_components(upload: Upload, maps: PatchMaps) -> Image.Image:
    """The first three principal components of the patch tokens."""
    colours = Image.fromarray((maps.components.numpy() * 255).astype(np.uint8))
    return colours.resize(upload.shape, Image.Resampling.NEAREST)


def data_url(square: Tensor, shape: tuple[int, int] | None = None) -> str:
    """A picture uint8 [3, S, S] as the address of a JPEG, for pages that draw it themselves."""
    shown = Image.fromarray(square.permute(1, 2, 0).contiguous().to(torch.uint8).numpy())
    return image_url(shown if shape is None else shown.resize(shape, Image.Resampling.BICUBIC))


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


def _label(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, colour: str) -> None:
    left, top, right, bottom = draw.textbbox(at, text, font_size=15)
    draw.rectangle((left - 4, top - 3, right + 4, bottom + 3), fill=_UNDER)
    draw.text(at, text, fill=colour, font_size=15)

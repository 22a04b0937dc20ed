"""The parts of the page that Gradio has not: boards of tiles, boxes and points, each a few lines of JavaScript.

A board's value is a dictionary (its fields stand at the head of its script). What comes back from the browser is the
visitor's and must be checked (:func:`board_value`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import gradio as gr

from ..errors import InputError

_ASSETS = files(__package__) / "assets"


def asset(name: str) -> str:
    """A file of the page."""
    return (_ASSETS / name).read_text(encoding="utf-8")


def photograph_strip(photographs: Sequence[Mapping[str, str]]) -> gr.HTML:
    """Small photographs to choose from: the address and the name of each."""
    template = '<div class="photo-strip" role="group" aria-label="Photographs to choose from"></div>'
    return _board("photo_strip.js", template, value={"photos": list(photographs), "chosen": 0}, elem_id="strip")


def tile_board(**options: Any) -> gr.HTML:
    """Tiles to change places. Fields: see ``assets/tile_board.js``."""
    template = '<div class="tile-board" role="group" aria-label="The puzzle: choose two tiles to swap" hidden></div>'
    return _board("tile_board.js", template, **options)


def box_board(**options: Any) -> gr.HTML:
    """Two boxes on an image."""
    template = '<div class="box-board" role="group" aria-label="The image with two boxes" hidden></div>'
    return _board("box_board.js", template, **options)


def point_board(**options: Any) -> gr.HTML:
    """A point on an image."""
    template = '<div class="point-board" role="application" tabindex="0" aria-label="The image" hidden></div>'
    return _board("point_board.js", template, **options)


def _board(script: str, template: str, **options: Any) -> gr.HTML:
    return gr.HTML(
        html_template=template,
        js_on_load=asset(script),
        apply_default_css=False,
        elem_classes="board",
        **options,
    )


def board_value(value: Any, field: str, length: int | None = None) -> list[float]:
    """A field of numbers of a board that came from the browser.

    Raises:
        ValueError: it is not there, or not numbers.
    """
    content: Any = value.get(field) if isinstance(value, Mapping) else None
    numbers = content if isinstance(content, list) else [content]
    if not all(isinstance(number, int | float) for number in numbers) or length not in (None, len(numbers)):
        raise InputError(f"The board's {field} is not what this page sends; reload it.")
    return [float(number) for number in numbers]

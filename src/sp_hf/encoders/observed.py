"""Facts of a model type without a row in the table: seen in the shapes of what it makes of views of two sizes.

- A feature map [B, D, rows, columns] or [B, rows, columns, D]: its cells are the patches.
- Tokens [B, T, D]: P prefix tokens, then rows * columns patches.  Twice the side has four times the patches, so
  P = (4 T - T') / 3; of a model that takes one size alone, what its first layer's grid, or a square, leaves over.
- The image embedding is ``pooler_output`` where there is one as wide as a patch, else the first prefix token, else the
  mean of the patches.
- A layer norm that was applied to one vector an image is the final norm that the stock model keeps for its pooled
  output.

What shapes cannot tell, the order of tokens, is seen in numbers (:mod:`sp_hf.encoders.token_order`).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import InputError
from .facts import Dimensions, Embedding, ModelFacts
from .layers import num_layers
from .shapes import BATCH, Look, Shapes, ViewError

USUAL_SIDE = 224
"""Pixels a side of images for a model whose configuration names none."""

_MASK_TOKEN = "embeddings.mask_token"
_SOME_SIDES = (256, 512)  # of which any patch size is a divisor


class NoEncoderError(InputError):
    """A model that is no encoder of views; the message says why."""


def observe(
    base: ModelFacts, model_class: type[PreTrainedModel], config: PreTrainedConfig
) -> tuple[ModelFacts, Dimensions]:
    """How to read a model, and its dimensions.

    Args:
        base: how it is built.
        model_class, config: the model's.

    Raises:
        NoEncoderError: its output is no grid of patches.
    """
    return _observe(base.model_class, _Key(base, model_class, config, config.to_json_string(use_diff=False)))


@dataclasses.dataclass(frozen=True)
class _Key:
    """Equal for equal configurations."""

    base: ModelFacts = dataclasses.field(compare=False)
    model_class: type[PreTrainedModel]
    config: PreTrainedConfig = dataclasses.field(compare=False)
    text: str


@functools.lru_cache(maxsize=8)
def _observe(name: str, key: _Key) -> tuple[ModelFacts, Dimensions]:
    config = key.config
    try:
        shapes = Shapes(key.model_class, config, key.base.init_kwargs)
        native = native_size(config)
        look = shapes.look(*native)
        trace = shapes.trace(*native)
        layout = _layout(look, name)
        larger = _other(shapes, 2 * native[0], 2 * native[1])
        _other(shapes, native[0] // 2, native[1] // 2)  # small views are what changes a model
        if larger is not None and larger.features == look.features:
            raise NoEncoderError(f"{name} makes as many tokens of a view of twice the side: queries, not places")
        if layout:
            patch, prefix = _patch_of_map(shapes, native, layout, name), 0
        else:
            patch, prefix = _patch_of_tokens(native, look, larger, trace.stem_grid, name)
    except ViewError as error:
        raise NoEncoderError(f"{name} takes no batch of pixels alone: {error}") from error
    width = look.features[1 if layout == "NCHW" else -1]
    norm = next((norm for norm in trace.pooled_norms if look.pooled is not None), None)
    grid = (native[0] // patch, native[1] // patch)
    masks = _masks(shapes, native, grid, trace.stem_grid, trace.stem_width)
    facts = dataclasses.replace(
        key.base,
        patch_projection=trace.stem,
        positions=None,
        prefix_tokens=prefix,
        embedding=_embedding(look, prefix, width),
        resizes_on_request=False,
        square_positions=False,
        fixed_size=larger is None,
        final_norm=norm,
        unreached=trace.unreached,
        feature_map=layout,
        shapes=shapes,
        **masks,
    )
    dimensions = Dimensions(
        hidden_size=width,
        num_hidden_layers=num_layers(name for name, _ in shapes.twin.named_parameters()),
        num_prefix_tokens=prefix,
        patch_size=(patch, patch),
        image_size=native,
        num_channels=getattr(config, "num_channels", 3),
    )
    return facts, dimensions


def native_size(config: PreTrainedConfig) -> tuple[int, int]:
    """(height, width) in pixels of the images that a configuration is made for."""
    size: Any = getattr(config, "image_size", None)
    if isinstance(size, dict):
        size = (size["height"], size["width"])
    if isinstance(size, Sequence):
        return int(size[0]), int(size[-1])
    return (USUAL_SIDE, USUAL_SIDE) if size is None else (int(size), int(size))


def _layout(look: Look, name: str) -> str | None:
    shape = look.features
    if shape[0] != BATCH or len(shape) not in (3, 4):
        raise NoEncoderError(f"{name} makes {list(shape)} of {BATCH} views, which is no map and no row of tokens each")
    if len(shape) == 3:
        return None
    return "NHWC" if shape[1] == shape[2] != shape[3] else "NCHW"


def _other(shapes: Shapes, height: int, width: int) -> Look | None:
    try:
        return shapes.look(height, width)
    except ViewError:
        return None


def _patch_of_map(shapes: Shapes, native: tuple[int, int], layout: str, name: str) -> int:
    """Pixels a side of a cell, of a view that is divisible into cells."""
    for height, width in (native, *((side, side) for side in _SOME_SIDES)):
        shape = shapes.look(height, width).features
        rows, columns = shape[2:] if layout == "NCHW" else shape[1:3]
        if rows and height % rows == 0 and height * columns == width * rows:
            return height // rows
    raise NoEncoderError(f"{name} makes {rows} x {columns} cells of {height} x {width} pixels: no square cells")


def _patch_of_tokens(
    native: tuple[int, int], look: Look, larger: Look | None, stem_grid: Sequence[int], name: str
) -> tuple[int, int]:
    """(pixels a side of a patch, tokens before the patches)."""
    tokens = look.features[1]
    if larger is not None:
        guesses = [(4 * tokens - larger.features[1]) / 3]
    else:
        guesses = [*([tokens - math.prod(stem_grid)] if stem_grid else []), 0, 1]
    for prefix in guesses:
        patches = tokens - prefix
        patch = math.sqrt(native[0] * native[1] / patches) if patches > 0 else 0.5
        if prefix >= 0 and prefix == int(prefix) and patch == int(patch) and not any(s % patch for s in native):
            return int(patch), int(prefix)
    raise NoEncoderError(
        f"{name} makes {tokens} tokens of {native[0]} x {native[1]} pixels"
        + (f", and {larger.features[1]} of twice the side" if larger else "")
        + ": no grid of square patches behind prefix tokens"
    )


def _embedding(look: Look, prefix: int, width: int) -> Embedding:
    if look.pooled is not None and look.pooled in ((BATCH, width), (BATCH, width, 1, 1)):
        return "pooler"
    return "class token" if prefix else "mean of patches"


def _masks(
    shapes: Shapes, native: tuple[int, int], grid: tuple[int, int], stem_grid: Sequence[int], stem_width: int
) -> dict[str, Any]:
    """The facts of masked patches: the token, and how many of the stem's cells a patch covers, a side."""
    if "bool_masked_pos" not in inspect.signature(type(shapes.twin).forward).parameters or not stem_grid:
        return {}
    factor, rest = divmod(stem_grid[0], grid[0])
    if rest or tuple(stem_grid) != (grid[0] * factor, grid[1] * factor):
        return {}
    if not shapes.takes_masks(*native, _MASK_TOKEN, math.prod(stem_grid), stem_width):
        return {}
    return {"mask_token": _MASK_TOKEN, "mask_factor": factor}

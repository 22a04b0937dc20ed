"""Parts of an encoder that a run leaves as they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..encoders.layers import layer_ids, num_layers
from ..errors import RecipeError

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder

PATCH_EMBEDDING, EMBEDDINGS = "patch_embedding", "embeddings"


def parse_freeze(text: str) -> int | None:
    """How deep a ``--freeze`` reaches.

    Args:
        text: ``patch_embedding``, ``embeddings`` or ``layers:N``.

    Returns:
        The last frozen layer (the embeddings are layer 0), or ``None`` for the patch embedding alone.

    Raises:
        ValueError: anything else.
    """
    if text == PATCH_EMBEDDING:
        return None
    if text == EMBEDDINGS:
        return 0
    layers = re.fullmatch(r"layers:([1-9]\d*)", text)
    if layers is None:
        raise RecipeError(f"--freeze {text!r} is unknown: {PATCH_EMBEDDING}, {EMBEDDINGS} or layers:N with N from 1.")
    return int(layers[1])


def freeze(encoder: Encoder, text: str) -> None:
    """Take the gradient from a part of the encoder.

    Args:
        encoder: the student.
        text: see :func:`parse_freeze`.

    Raises:
        ValueError: an unknown part, or more layers than there are.
    """
    last = parse_freeze(text)
    if last is None:
        encoder.patch_projection().requires_grad_(False)
        return
    names = [name for name, _ in encoder.model.named_parameters()]
    ids, layers = layer_ids(names), num_layers(names)
    if last > layers:
        raise RecipeError(f"--freeze {text}: {type(encoder.model).__name__} has {layers} layers.")
    for name, parameter in encoder.model.named_parameters():
        if ids[name] <= last:
            parameter.requires_grad_(False)

"""Whether a model's tokens lie row by row behind its prefix tokens: seen where a changed patch shows.

Shapes cannot tell.  A vision model's token turns most when its own pixels change: two cells are changed, one at a time,
and the token that turns most, by cosine, must be the one that the grid says.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .facts import Dimensions, ModelFacts
from .observed import NoEncoderError
from .shapes import features_of


@torch.no_grad()
def check_order(model: Any, facts: ModelFacts, dimensions: Dimensions) -> None:
    """Refuse a model whose tokens lie in another order; its weights and the random state stay as they are.

    Args:
        model: with its weights; one on the device ``meta``, whose weights are yet to come, is believed.
        facts, dimensions: as its shapes were read.

    Raises:
        NoEncoderError: they do.
    """
    height, width = dimensions.image_size
    patch, prefix = dimensions.patch_size[0], dimensions.num_prefix_tokens
    rows, columns = height // patch, width // patch
    weight = model.get_submodule(facts.patch_projection).weight
    if weight.is_meta or rows * columns == 1:
        return
    cells = [(0, columns - 1), (rows // 2, 0)]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, height, width, generator=generator).repeat(1 + len(cells), 1, 1, 1)
    for image, (row, column) in enumerate(cells, start=1):
        place = (slice(row * patch, (row + 1) * patch), slice(column * patch, (column + 1) * patch))
        pixels[image, :, place[0], place[1]] = 3 * torch.randn(3, patch, patch, generator=generator)
    tokens = _tokens(model, pixels.to(weight))  # [1 + cells, T, D]
    likeness = torch.cosine_similarity(tokens[1:], tokens[:1], dim=-1)  # [cells, T]
    turned = likeness[:, prefix:].argmin(dim=1).tolist()
    expected = [row * columns + column for row, column in cells]
    if turned != expected:
        raise NoEncoderError(
            f"{facts.model_class}: patches {expected} were changed, and tokens {turned} turned most: its tokens do not"
            " lie row by row"
        )


def _tokens(model: Any, pixels: Tensor) -> Tensor:
    was_training = model.training
    model.eval()
    try:
        features = features_of(model(pixels))
    finally:
        model.train(was_training)
    assert features is not None
    return features.float()

"""From a stock model's output to an image embedding and patch tokens.

Letters: B images, N patch tokens, D hidden size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .facts import ModelFacts, find
from .shapes import features_of


def read(model: Any, outputs: Any, facts: ModelFacts, prefix_tokens: int) -> tuple[Tensor, Tensor]:
    """(image embedding [B, D], patch tokens [B, N, D] row by row).

    Args:
        model: whose final norm may have to be applied.
        outputs: of its forward.
        facts: how to read them.
        prefix_tokens: tokens before the patches.
    """
    tokens: Any = features_of(outputs)
    norm: Any = find(model, facts.final_norm) if facts.final_norm else None
    if norm is not None and facts.norm_of_map:
        tokens = norm(tokens)
    if facts.feature_map:
        tokens = tokens.flatten(2).transpose(1, 2) if facts.feature_map == "NCHW" else tokens.flatten(1, 2)
    if norm is not None and not facts.norm_of_map:
        tokens = norm(tokens)  # [B, prefix + N, D]
    patches = tokens[:, prefix_tokens:]
    if facts.embedding == "class token":
        return tokens[:, 0], patches
    pooled = getattr(outputs, "pooler_output", None) if facts.embedding == "pooler" else None
    return patches.mean(1) if pooled is None else pooled.flatten(1), patches

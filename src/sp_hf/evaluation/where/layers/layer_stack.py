"""What every layer of an encoder makes of a view, in one pass.

Letters: B views, H side in px, L layers, N patch tokens, D feature size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ....encoders.encoder import Encoder, Encoding


class NoLayers(ValueError):
    """The encoder has no stack of layers whose tokens are all of one grid and size."""


def blocks_of(encoder: Encoder) -> list[nn.Module]:
    """The L layers of a transformer, from first to last.

    Raises:
        NoLayers: a conv net, whose stages differ in grid and size, or an architecture without such a list.
    """
    count = encoder.num_hidden_layers
    if encoder.facts.feature_map is None:
        for module in encoder.model.modules():
            if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) == count and count > 1:
                return list(module)
    raise NoLayers(f"{type(encoder.model).__name__} has no stack of layers of one grid and size")


class LayerStack(nn.Module):
    """Probed like an encoder, with an axis of layers: 0 is the sum of patch embeddings and positions, l < L what layer
    l puts out, and L what the encoder does, its final norm included.

    Args:
        encoder: left as it is.
        of: tells encoders apart, for the cache.

    Raises:
        NoLayers: see :func:`blocks_of`.
    """

    def __init__(self, encoder: Encoder, of: str) -> None:
        super().__init__()
        self.encoder, self.of = encoder, of
        self.blocks = blocks_of(encoder)

    def patches_of(self, size: int) -> tuple[int, int]:
        return self.encoder.patches_of(size)

    def forward(self, pixels: Tensor) -> Encoding:
        """Pixels float [B, 3, H, H] to cls [B, L + 1, D] and patches [B, L + 1, N, D]."""
        seen: list[Tensor] = []

        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else next(iter(kwargs.values())))

        hooks = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in self.blocks]
        try:
            last = self.encoder(pixels)
        finally:
            for hook in hooks:
                hook.remove()
        prefix = self.encoder.num_prefix_tokens
        patches = torch.stack([*(tokens[:, prefix:].float() for tokens in seen), last.patches.float()], dim=1)
        of_layers = [tokens[:, 0].float() if prefix else tokens.float().mean(1) for tokens in seen]
        return Encoding(torch.stack([*of_layers, last.cls.float()], dim=1), patches, last.grid)

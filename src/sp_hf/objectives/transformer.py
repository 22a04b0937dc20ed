"""Light transformers behind the encoder: decoders over patch tokens, and attention to another view's.

Letters: N tokens, M tokens of what is looked at, C width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Decoder(nn.Module):
    """A projection to the decoder's width, pre-norm transformer blocks, and a final norm.

    Initialised as MAE's decoder: Xavier-uniform linear layers, zero biases.

    Args:
        depth: number of blocks.
        width: C.
        heads: attention heads; must divide C.
    """

    def __init__(self, depth: int, width: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        _initialise(self.blocks)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, C] to [B, N, C]."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


def _block(width: int, heads: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )


class CrossAttention(nn.Module):
    """A pre-norm block in which tokens look at others', and not at each other; Xavier as :class:`Decoder`.

    Args:
        width: C. heads: of the attention; must divide C.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query_norm, self.key_norm, self.mlp_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        _initialise(self)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """[B, N, C], which look at [B, M, C], to [B, N, C]."""
        keys = self.key_norm(seen)
        tokens = tokens + self.attention(self.query_norm(tokens), keys, keys, need_weights=False)[0]
        return tokens + self.mlp(self.mlp_norm(tokens))


class ClassAttention(nn.Module):
    """A query attends to itself and to tokens, which stay as they are (Touvron et al. 2021, "CaiT", arXiv:2103.17239).

    Args:
        width: C. heads: of the attention; must divide C.
        scale: at which LayerScale starts.
    """

    def __init__(self, width: int, heads: int, scale: float = 0.1) -> None:
        super().__init__()
        self.norm, self.mlp_norm = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        _initialise(self)
        self.scale, self.mlp_scale = (nn.Parameter(torch.full((width,), scale)) for _ in range(2))

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """Queries [B, 1, C] and tokens [B, N, C] to [B, 1, C]."""
        seen = self.norm(torch.cat([query, tokens.to(query.dtype)], dim=1))
        query = query + self.scale * self.attention(seen[:, :1], seen, seen, need_weights=False)[0]
        return query + self.mlp_scale * self.mlp(self.mlp_norm(query))


def _initialise(module: nn.Module) -> None:
    """Xavier-uniform matrices, zero biases."""
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)

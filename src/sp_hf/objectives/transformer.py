"""Light transformer decoders over patch tokens, and fixed sine-cosine positions.

Letters: N tokens, C decoder width.
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
        for name, parameter in self.blocks.named_parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, C] to [B, N, C]."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


def _block(width: int, heads: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )


def sincos_positions(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """Fixed two-dimensional sine-cosine positions, [rows * columns, width], row by row.

    The first half of the channels encodes the column, the second half the row; each half is the sines, then the
    cosines, of ``index / 10000^(k / (width / 4))`` (the encoding of arXiv:1706.03762 an axis, as MAE uses it).

    Raises:
        ValueError: ``width`` is not divisible by 4.
    """
    if width % 4:
        raise ValueError(f"sine-cosine positions need a width divisible by 4; got {width}.")
    frequencies = 10000.0 ** (-torch.arange(width // 4, device=device) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    angles = [axis.flatten()[:, None] * frequencies for axis in (column, row)]  # 2 x [N, width / 4]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=-1)

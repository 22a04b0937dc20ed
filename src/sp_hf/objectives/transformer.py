"""Light transformer decoders over patch tokens.

Letters: N tokens, C decoder width.
"""

from __future__ import annotations

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

"""A control without any learning: the view itself, shrunk to a few pixels, as its feature.

Letters: B images, H view side in px, s side after shrinking.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.encoder import Encoding


class RawPixels(nn.Module):
    """Probed like an encoder: the class token is the shrunk view, 3 s^2 numbers; the patches are its pixels.

    Args:
        side: s, in px.
    """

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        self.side = side

    def patches_of(self, size: int) -> tuple[int, int]:
        """Any view can be shrunk: (s, s), or the view's own pixels if they are fewer."""
        side = min(self.side, size)
        return side, side

    def forward(self, pixels: Tensor) -> Encoding:
        """Pixels float [B, 3, H, H] to cls [B, 3 s^2], patches [B, s^2, 3]."""
        grid = self.patches_of(pixels.shape[-1])
        shrunk = F.adaptive_avg_pool2d(pixels.float(), grid)  # [B, 3, s, s]
        return Encoding(shrunk.flatten(1), shrunk.flatten(2).transpose(1, 2), grid)

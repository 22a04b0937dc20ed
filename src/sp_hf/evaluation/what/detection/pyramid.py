"""A simple feature pyramid: several scales made of one feature map, for detectors that expect them.

After ViTDet (Li et al. 2022, arXiv:2203.16527, section 3): a plain encoder has one scale; the others are made of its
last map alone, by transposed convolutions and by pooling.

Letters: B images, D channels of the encoder's map, C of the pyramid's, (h, w) its grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BackboneOutput


class SimplePyramid(nn.Module):
    """Feature maps of several scales from one, in the place of a detector's backbone.

    Args:
        source: what makes the map [B, D, h, w] of the detector's input; an identity where the input is that map.
        features: D.
        channels: C, a multiple of 32.
        scales: of the maps in units of the encoder's grid, from fine to coarse: of 4, 2, 1 and 0.5.

    Each channel is standardised over the images seen in training, as encoders differ by orders of magnitude. A grid of
    odd sides is resampled to the next even ones, so that each scale is twice the next.
    """

    def __init__(self, source: nn.Module, features: int, channels: int, scales: Sequence[float]) -> None:
        super().__init__()
        self.source = source
        self.standardise = nn.BatchNorm2d(features, affine=False)
        self.levels = nn.ModuleList(_level(features, channels, scale) for scale in scales)

    def forward(self, inputs: Tensor) -> BackboneOutput:
        """``feature_maps``: [B, C, scale h, scale w] for each scale, fine to coarse."""
        features = self.standardise(self.source(inputs))
        even = [side + side % 2 for side in features.shape[-2:]]
        if even != list(features.shape[-2:]):
            features = F.interpolate(features, size=even, mode="bilinear", align_corners=False)
        return BackboneOutput(feature_maps=tuple(level(features) for level in self.levels))


def _level(features: int, channels: int, scale: float) -> nn.Sequential:
    resize: list[nn.Module]
    if scale == 4:
        resize = [_Up(channels), nn.GroupNorm(1, channels), nn.GELU(), _Up(channels)]
    elif scale == 2:
        resize = [_Up(channels)]
    else:
        resize = [] if scale == 1 else [nn.MaxPool2d(2)]
    project = nn.Conv2d(features, channels, 1, bias=False)
    smooth = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(project, nn.GroupNorm(1, channels), *resize, smooth, nn.GroupNorm(1, channels))


class _Up(nn.ConvTranspose2d):
    """Twice the sides."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=2, stride=2)


class EncodedMap(nn.Module):
    """An encoder as the source of a pyramid: pixels float [B, 3, S, S] in [0, 1] to its map [B, D, h, w]."""

    encoder: Any  # an Encoder, or a control

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> Tensor:
        return as_map(self.encoder(pixels).patches, self.encoder.patches_of(pixels.shape[-1]))


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patch tokens [B, N, D] as a map [B, D, h, w], N = h w."""
    return torch.unflatten(tokens.transpose(1, 2), 2, grid)

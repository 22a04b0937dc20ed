"""How much of patch tokens is their position: the share of their variance that the place in the image explains.

An analysis of variance of tokens by place (two-way: by place and by image). With x_ip the token at place p of image i
less the mean token of its image,

    share = mean over pairs of images i != j of  sum over p of x_ip . x_jp
            ------------------------------------------------------------
            mean over images i of               sum over p of |x_ip|^2

What two images have in common at a place is not their content, so the numerator is the variance of the place's own
token, free of the upward bias that the variance of means has. On **noise images**, whose content is the same everywhere
on average, it is the encoder's own positional signal: 1 where tokens tell nothing but their place, 0 where they do not
tell it. (After INSID3, Cuttano et al. 2026, arXiv:2603.28480, which spans the *positional subspace* by the tokens of a
noise image and takes it out of the features.) On photographs it also holds what these have in common: skies above,
things in the middle.

The interval resamples images; the numerator is an average over pairs, whose error is twice that of an average over
images (Hoeffding 1948): each image's part counts twice its distance from the mean.

Letters: n images, N places, D feature size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...measure import Measure

NOISE_IMAGES = 32
_MEAN, _SPREAD = 0.5, 0.25
_ROUNDING = 1e-9  # of the tokens' energy, below which their variance is none


def noise_images(count: int, size: int, seed: int) -> Tensor:
    """Independent Gaussian pixels around grey: uint8 [count, 3, size, size]."""
    noise = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return ((_MEAN + _SPREAD * noise).clamp(0, 1) * 255).round().byte()


def positional_share(tokens: Tensor) -> Measure:
    """The share, of the tokens of whole images.

    Args:
        tokens: [n, N, D], two images at least.
    """
    tokens = tokens.double()
    x = tokens - tokens.mean(1, keepdim=True)
    total = x.square().sum((1, 2))  # [n]
    common = ((x.sum(0) * x).sum((1, 2)) - total) / (len(x) - 1)  # with the other images, on average
    if (total <= _ROUNDING * tokens.square().sum((1, 2))).all():
        return Measure(torch.zeros_like(total), torch.ones_like(total), percent=True, chance=0.0)
    return Measure(2 * common - common.mean(), total, percent=True, chance=0.0)


def positional_dimensions(tokens: Tensor) -> float:
    """How many directions the places' mean tokens spread along: (sum of eigenvalues)^2 / sum of their squares."""
    mean = tokens.double().mean(0)
    powers = torch.linalg.svdvals(mean - mean.mean(0)).square()
    return float(powers.sum() ** 2 / powers.square().sum().clamp(min=torch.finfo(powers.dtype).tiny))

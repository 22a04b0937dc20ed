"""Photometric jitter of views, each its own: brightness, contrast, saturation, hue, grey, blur, solarise.

Letters: B images, V views of one image, N output side in pixels.

Distributions are those of the papers: SimCLR (Chen et al. 2020, arXiv:2002.05709, app. A), BYOL (Grill et al. 2020,
arXiv:2006.07733, app. B, which MoCo v3 and DINO follow). Factors of brightness, contrast and saturation are uniform in
``[1 - s, 1 + s]``, the hue's shift uniform in ``[-s, s]`` turns; grey is luma (0.299, 0.587, 0.114).

Brightness b, contrast c, saturation s, hue h and grey are all affine in colour, so they are one matrix a view::

    x'  =  c b [ Y + s cos(2 pi h) (I - Y) + s sin(2 pi h) K ] x  +  (1 - c) b m

``Y`` maps a colour to its grey, ``I - Y`` to its chroma, ``K`` to its chroma turned by 90 degrees in the YIQ plane; ``m``
is the view's mean grey; a grey view has s = 0.

Deviations from torchvision's ``ColorJitter``: one order (brightness, contrast, saturation, hue, grey) instead of a random
one; the result is clamped once, not after each step; hue is a rotation at constant luma, not a shift in HSV. Blur is part
of the resampling (:mod:`sp_hf.resampling`): it is linear and commutes with the matrix.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .keyed_random import uniform

PerView = float | tuple[float, ...]

_LUMA = (0.299, 0.587, 0.114)
_TO_IQ = ((0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))
_NUMBERS = 9  # uniform numbers a view


@dataclasses.dataclass(frozen=True)
class Photometric:
    """Strengths and probabilities of the photometric jitter of a view set.

    Args:
        brightness, contrast, saturation: factors are uniform in [max(0, 1 - s), 1 + s].
        hue: shift is uniform in [-s, s] turns; at most 0.5.
        jitter_prob: probability that a view is jittered in these four at all.
        grey_prob: probability that a view loses its colour.
        blur_prob: probability of a Gaussian blur; a tuple has one for each view of the set.
        blur_sigma: (low, high), standard deviation in output pixels, uniform.
        solarise_prob: probability that values above 0.5 are inverted; a tuple has one for each view of the set.

    Raises:
        ValueError: a strength below 0, a probability outside [0, 1], a range out of order.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    jitter_prob: float = 1.0
    grey_prob: float = 0.0
    blur_prob: PerView = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarise_prob: PerView = 0.0

    def __post_init__(self) -> None:
        for name in ("blur_prob", "blur_sigma", "solarise_prob"):  # JSON has lists
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) < 0:
                raise ValueError(f"photometric {name} is {getattr(self, name)}; it must be at least 0")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"photometric hue is {self.hue}; it must be in [0, 0.5] turns")
        for name in ("jitter_prob", "grey_prob", "blur_prob", "solarise_prob"):
            value = getattr(self, name)
            if not all(0 <= p <= 1 for p in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"photometric {name} is {value}; probabilities must be in [0, 1]")
        if len(self.blur_sigma) != 2 or not 0 <= self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(
                f"photometric blur_sigma is {self.blur_sigma}; it must be (low, high) with 0 <= low <= high"
            )

    @classmethod
    def none(cls) -> Photometric:
        """Nothing: MAE (He et al. 2021, arXiv:2111.06377, app. A.1) uses crops and flips only."""
        return cls()

    @classmethod
    def byol(cls, **changes: Any) -> Photometric:
        """BYOL's colour jitter and grey, without blur and solarise, which differ from view to view."""
        return cls(**{"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter_prob": 0.8,
                      "grey_prob": 0.2, **changes})  # fmt: skip

    @classmethod
    def dino_global(cls) -> Photometric:
        """DINO's two global views (Caron et al. 2021, arXiv:2104.14294, and its code): the second is rarely blurred."""
        return cls.byol(blur_prob=(1.0, 0.1), solarise_prob=(0.0, 0.2))

    @classmethod
    def dino_local(cls) -> Photometric:
        """DINO's local views."""
        return cls.byol(blur_prob=0.5)

    @classmethod
    def moco_v3(cls) -> Photometric:
        """MoCo v3's two views (Chen, Xie, He 2021, arXiv:2104.02057): BYOL's asymmetric augmentation."""
        return cls.byol(blur_prob=(1.0, 0.1), solarise_prob=(0.0, 0.2))

    def check_count(self, count: int) -> None:
        """Raise ValueError if a per-view tuple is not one value for each of ``count`` views."""
        for name in ("blur_prob", "solarise_prob"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != count:
                raise ValueError(
                    f"photometric {name} has {len(value)} values for {count} views; give one a view, or a float"
                )

    @property
    def changes_colour(self) -> bool:
        jitters = self.jitter_prob > 0 and any((self.brightness, self.contrast, self.saturation, self.hue))
        return jitters or self.grey_prob > 0

    @property
    def blurs(self) -> bool:
        return any(_per_view(self.blur_prob))

    @property
    def solarises(self) -> bool:
        return any(_per_view(self.solarise_prob))


class Jitter(NamedTuple):
    """What was drawn for each view. All [B, V]."""

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor  # 0 where the view is grey
    hue: Tensor  # turns
    blur: Tensor  # variance in squared output pixels
    solarise: Tensor  # bool


def sample_jitter(keys: Tensor, stream: str, count: int, photometric: Photometric) -> Jitter:
    """Draw the jitter of ``count`` views an image. keys: int64 [B]."""
    u = uniform(keys, stream, (count, _NUMBERS)).unbind(-1)  # 9 x [B, V]
    jittered = u[0] < photometric.jitter_prob

    def factor(number: Tensor, strength: float) -> Tensor:
        low = max(0.0, 1 - strength)
        return torch.where(jittered, low + (1 + strength - low) * number, 1.0)

    sigma_low, sigma_high = photometric.blur_sigma
    sigma = sigma_low + (sigma_high - sigma_low) * u[7]
    return Jitter(
        brightness=factor(u[1], photometric.brightness),
        contrast=factor(u[2], photometric.contrast),
        saturation=torch.where(u[5] < photometric.grey_prob, 0.0, factor(u[3], photometric.saturation)),
        hue=torch.where(jittered, photometric.hue * (2 * u[4] - 1), 0.0),
        blur=torch.where(u[6] < _on(photometric.blur_prob, keys.device), sigma.square(), 0.0),
        solarise=u[8] < _on(photometric.solarise_prob, keys.device),
    )


def colour_matrices(jitter: Jitter) -> Tensor:
    """The linear part of the colour transform: [B, V, 3, 3] (see the module's equation)."""
    chroma = 2 * math.pi * jitter.hue
    coefficients = (
        torch.stack(
            [torch.ones_like(chroma), jitter.saturation * chroma.cos(), jitter.saturation * chroma.sin()], dim=-1
        )
        * (jitter.contrast * jitter.brightness)[..., None]
    )  # [B, V, 3]
    return (coefficients @ _basis(chroma.device).view(3, 9)).unflatten(-1, (3, 3))


def colour_offsets(jitter: Jitter, mean_grey: Tensor) -> Tensor:
    """The constant part of the colour transform, the same for each channel: [B, V]. mean_grey: [B, V], of the views."""
    return (1 - jitter.contrast) * jitter.brightness * mean_grey


def finish(resampled: Tensor, jitter: Jitter, photometric: Photometric) -> Tensor:
    """Colour and solarise, after resampling.

    Args:
        resampled: [B, V, N, 3, N] in 0 .. 255.
        jitter: of these views.
        photometric: what they were drawn from; what it never does is not computed.

    Returns:
        float32 [B, V, 3, N, N] in [0, 1].
    """
    if photometric.changes_colour:
        mean_grey = luma(resampled.mean((2, 4), dtype=torch.float32) / 255)  # [B, V]
        pixels = _apply_colour(resampled, colour_matrices(jitter) / 255, colour_offsets(jitter, mean_grey))
    else:
        pixels = resampled.transpose(2, 3) * torch.full((), 1 / 255, device=resampled.device)
    pixels = pixels.clamp_(0, 1)
    return solarise(pixels, jitter.solarise) if photometric.solarises else pixels


def _apply_colour(resampled: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
    """[B, V, N, 3, N], [B, V, 3, 3], [B, V] to [B, V, 3, N, N]."""
    planes = resampled.float().transpose(2, 3).flatten(3)  # [B, V, 3, N*N]
    mixed = torch.baddbmm(offsets.view(-1, 1, 1), matrices.flatten(0, 1), planes.flatten(0, 1))
    return mixed.view(resampled.transpose(2, 3).shape)


def solarise(pixels: Tensor, where: Tensor) -> Tensor:
    """Invert values above 0.5: x becomes min(x, 1 - x). pixels [B, V, 3, N, N] in [0, 1]; where: bool [B, V]."""
    return torch.where(where[..., None, None, None], torch.minimum(pixels, 1 - pixels), pixels)


def luma(pixels: Tensor) -> Tensor:
    """Grey of colours in the last dimension: [..., 3] to [...]."""
    return pixels @ torch.tensor(_LUMA, device=pixels.device)


def _per_view(value: PerView) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


@functools.lru_cache(maxsize=64)
def _on(value: PerView, device: torch.device) -> Tensor:
    """Kept on the device, so that no step waits for a copy."""
    return torch.tensor(_per_view(value), device=device)


@functools.lru_cache(maxsize=8)
def _basis(device: torch.device) -> Tensor:
    """[3, 3, 3]: to grey, to chroma, to chroma turned by 90 degrees in the IQ plane."""
    to_grey = torch.tensor([_LUMA] * 3, dtype=torch.float64)
    to_yiq = torch.tensor([_LUMA, *_TO_IQ], dtype=torch.float64)
    quarter_turn = torch.tensor([[0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    turned = torch.linalg.inv(to_yiq) @ quarter_turn @ to_yiq
    return torch.stack([to_grey, torch.eye(3, dtype=torch.float64) - to_grey, turned]).float().to(device)

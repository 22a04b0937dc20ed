"""Photometric jitter of views, each its own: brightness, contrast, saturation, hue, grey, blur, solarise.

Letters: B images, V views of one image, N output side in pixels.

Distributions are those of the papers: SimCLR (Chen et al. 2020, arXiv:2002.05709, app. A) and BYOL (Grill et al. 2020,
arXiv:2006.07733, app. B), which MoCo v3 and DINO follow. Factors of brightness, contrast and saturation are uniform in
``[1 - s, 1 + s]``, the shift of hue in ``[-s, s]`` turns; grey is luma (0.299, 0.587, 0.114).

Brightness b, contrast c, saturation s, hue h and grey are all affine in colour, so they are one matrix a view::

    x'  =  c b [ Y + s cos(2 pi h) (I - Y) + s sin(2 pi h) K ] x  +  (1 - c) b m

``Y`` maps a colour to its grey, ``I - Y`` to its chroma, ``K`` to its chroma turned by 90 degrees in the YIQ plane;
``m`` is the view's mean grey; a grey view has s = 0.

Deviations from torchvision's ``ColorJitter`` and ``GaussianBlur``: one order (brightness, contrast, saturation, hue,
grey) instead of a random one; the result is clamped once, not after each step; hue is a rotation at constant luma, not
a shift in HSV; blur is part of the resampling (:mod:`sp_hf.views.resampling`), which it commutes with.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

PerView = float | tuple[float, ...]

_PER_VIEW = ("blur_prob", "solarise_prob")  # may have a value for each view
_LUMA = (0.299, 0.587, 0.114)
_TO_IQ = ((0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))
PRESETS = ("none", "simclr", "byol", "dino_global", "dino_local", "moco_v3")


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
            _check(name, getattr(self, name), 0, math.inf)
        _check("hue", self.hue, 0, 0.5)
        for name in ("jitter_prob", "grey_prob"):
            _check(name, getattr(self, name), 0, 1)
        for name in ("blur_prob", "solarise_prob"):
            for probability in _as_tuple(getattr(self, name)):
                _check(name, probability, 0, 1)
        if not isinstance(self.blur_sigma, tuple) or len(self.blur_sigma) != 2:
            raise InputError(f"photometric blur_sigma is {self.blur_sigma!r}; it must be (low, high) in output pixels")
        _check("blur_sigma's high end", self.blur_sigma[1], 0, math.inf)
        _check("blur_sigma's low end", self.blur_sigma[0], 0, self.blur_sigma[1])

    @classmethod
    def none(cls) -> Photometric:
        """Nothing: MAE (He et al. 2021, arXiv:2111.06377, app. A.1) uses crops and flips only."""
        return cls()

    @classmethod
    def simclr(cls) -> Photometric:
        """SimCLR's: twice BYOL's jitter, and half of the views blurred."""
        return cls.byol(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_prob=0.5)

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

    @classmethod
    def named(cls, name: str) -> Photometric:
        """One of the presets above, as recipes write it ("dino_local")."""
        if name not in PRESETS:
            raise InputError(f"photometric {name!r} is not known; the presets are {', '.join(PRESETS)}")
        return getattr(cls, name)()

    def for_count(self, count: int) -> dict[str, Any]:
        """All fields, values that are one a view repeated over ``count`` views."""
        fields = dataclasses.asdict(self)
        for name in _PER_VIEW:
            if isinstance(fields[name], tuple):
                fields[name] = tuple(itertools.islice(itertools.cycle(fields[name]), count))
        return fields

    def check_count(self, count: int) -> None:
        """Raise ValueError if a per-view tuple is not one value for each of ``count`` views."""
        for name in _PER_VIEW:
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != count:
                raise InputError(
                    f"photometric {name} has {len(value)} values for {count} views; give one a view, or one number"
                )

    @property
    def changes_colour(self) -> bool:
        jitters = self.jitter_prob > 0 and any((self.brightness, self.contrast, self.saturation, self.hue))
        return jitters or self.grey_prob > 0

    @property
    def blurs(self) -> bool:
        return any(_as_tuple(self.blur_prob))

    def solarised_views(self, count: int) -> tuple[int, ...]:
        """Which of ``count`` views are ever solarised."""
        probs = self.solarise_prob if isinstance(self.solarise_prob, tuple) else (self.solarise_prob,) * count
        return tuple(view for view, p in enumerate(probs) if p > 0)


class Jitter(NamedTuple):
    """What was drawn for each view. All [B, V]."""

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor  # 0 where the view is grey
    hue: Tensor  # turns
    blur: Tensor  # variance in squared output pixels
    solarise: Tensor  # bool

    def of(self, images: slice) -> Jitter:
        """Of some images of the batch."""
        return Jitter(*(field[images] for field in self))


NUMBERS = 9  # uniform numbers that the jitter of a view takes


def jitter_from(numbers: Tensor, photometric: Photometric) -> Jitter:
    """The jitter of V views an image, from uniform numbers in [0, 1): [B, V, 9]."""
    u = numbers.unbind(-1)  # 9 x [B, V]
    jittered = u[0] < photometric.jitter_prob

    def factor(number: Tensor, strength: float) -> Tensor:
        low = max(0.0, 1 - strength)
        return torch.where(jittered, low + (1 + strength - low) * number, 1.0)

    low, high = photometric.blur_sigma
    sigma = low + (high - low) * u[7]
    return Jitter(
        brightness=factor(u[1], photometric.brightness),
        contrast=factor(u[2], photometric.contrast),
        saturation=torch.where(u[5] < photometric.grey_prob, 0.0, factor(u[3], photometric.saturation)),
        hue=torch.where(jittered, photometric.hue * (2 * u[4] - 1), 0.0),
        blur=torch.where(u[6] < _on(_as_tuple(photometric.blur_prob), numbers.device), sigma.square(), 0.0),
        solarise=u[8] < _on(_as_tuple(photometric.solarise_prob), numbers.device),
    )


def colour_matrices(jitter: Jitter) -> Tensor:
    """The linear part of the colour transform: [B, V, 3, 3] (see the module's equation)."""
    angle = 2 * math.pi * jitter.hue
    chroma = jitter.saturation[..., None] * torch.stack([angle.cos(), angle.sin()], dim=-1)  # [B, V, 2]
    coefficients = torch.cat([torch.ones_like(angle)[..., None], chroma], dim=-1)  # [B, V, 3]
    gain = (jitter.contrast * jitter.brightness)[..., None]
    return (gain * coefficients @ _basis(angle.device).view(3, 9)).unflatten(-1, (3, 3))


def finish(resampled: Tensor, jitter: Jitter, matrices: Tensor | None, solarised: tuple[int, ...], out: Tensor) -> None:
    """Colour and solarise, after resampling.

    Args:
        resampled: [B, V, 3, N, N] in 0 .. 255.
        jitter: of these views.
        matrices: [B, V, 3, 3] of :func:`colour_matrices`; ``None``: colours stay as they are.
        solarised: which of the V views are ever solarised.
        out: float32 [B, V, 3, N, N], receives the pixels, in [0, 1].
    """
    planes = resampled.float()
    if matrices is None:
        torch.mul(planes, 1 / 255, out=out)
    else:
        grey = luma(planes.mean((3, 4)))  # [B, V], mean of the view
        offsets = (1 - jitter.contrast) * jitter.brightness * grey / 255
        flat = out.view(-1, 3, out.shape[3] * out.shape[4])  # [B*V, 3, N*N]
        planes = planes.reshape(flat.shape)
        torch.baddbmm(offsets.view(-1, 1, 1), matrices.flatten(0, 1), planes, alpha=1 / 255, out=flat)
    out.clamp_(0, 1)
    for view in solarised:
        solarise_(out[:, view], jitter.solarise[:, view])


def solarise_(pixels: Tensor, where: Tensor) -> None:
    """Invert values above 0.5, in place: x becomes x - 2 (x - 0.5). pixels [..., 3, N, N]; where: bool [...]."""
    above = (pixels - 0.5).clamp_(min=0).mul_(where[..., None, None, None])
    pixels.sub_(above, alpha=2)


def luma(pixels: Tensor) -> Tensor:
    """Grey of colours in the last dimension: [..., 3] to [...]."""
    return pixels @ _on(_LUMA, pixels.device)


def _as_tuple(value: PerView) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _check(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or value == math.inf:
        limits = f"at least {low}" if high == math.inf else f"in [{low}, {high}]"
        raise InputError(f"photometric {name} is {value!r}; it must be a number {limits}")


@functools.lru_cache(maxsize=64)
def _on(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Kept on the device, so that no step waits for a copy."""
    return torch.tensor(values, device=device)


def _colour_basis() -> list[list[list[float]]]:
    """[3, 3, 3]: to grey, to chroma, to chroma turned by 90 degrees in the IQ plane, from red towards yellow."""
    to_grey = np.array([_LUMA] * 3)
    to_yiq = np.array([_LUMA, *_TO_IQ])
    quarter_turn = np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]])
    turned = np.linalg.inv(to_yiq) @ quarter_turn @ to_yiq
    return np.stack([to_grey, np.eye(3) - to_grey, turned]).tolist()


_BASIS = _colour_basis()


@functools.lru_cache(maxsize=8)
def _basis(device: torch.device) -> Tensor:
    """:func:`_colour_basis`, kept on the device; of plain numbers, which a compiled graph takes in."""
    return torch.tensor(_BASIS, dtype=torch.float32, device=device)

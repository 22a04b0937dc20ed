"""Low-level cues of a crop, by hand: traces that tell its place or size and have nothing to do with what it shows.

- **blur**: an enlarged small box lacks fine detail. Logs of the structure function at lags of 1, 2 and 4 px along both
  axes and along the diagonal and of the Laplacian's energy, of the crop's grey at unit variance, and of that variance.
- **colour fringes**: lateral chromatic aberration magnifies red and blue about the image's centre, so that off-centre
  crops show them shifted against green (Doersch, Gupta, Efros 2015, arXiv:1505.05192, section 3.1). Shifts along both
  axes and magnification by least squares (Lucas and Kanade 1981), and the correlation with green's gradients.
- **JPEG grid**: blocks of 8 px leave edges at a fixed period, which a crop enlarges with itself. Power of the profile
  of second differences at 12 periods of 2.5 to 20 px along both axes, relative to its mean.
- **borders**: vignettes, frames and padding. Mean and log variance of the outermost row or column and of the outermost
  eighth at each of the four sides, less the crop's.
- **mean colour**: mean of each channel.

The blur of lenses and the colour of skies are in the picture, too, so not all that cues tell is a flaw of the probe.

Letters: B crops, N side in px, C numbers of a cue.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ...encoders.encoder import Encoding
from ...errors import InputError

SMALLEST = 16  # px, of a crop
_PERIODS = tuple(2.5 * 8 ** (step / 11) for step in range(12))  # px, 2.5 to 20
_TINY = 1e-6
OUTERMOST = (1, 99)  # percentiles


def blur(pixels: Tensor) -> Tensor:
    """[B, 3, N, N] to [B, 9]."""
    grey = _grey(pixels)
    contrast = _log_variance(grey)
    grey = (grey - grey.mean((1, 2), keepdim=True)) / (grey.std((1, 2), keepdim=True) + 1e-3)
    energies = []
    for lag in (1, 2, 4):
        energies += [(grey[:, lag:] - grey[:, :-lag]), (grey[:, :, lag:] - grey[:, :, :-lag])]
    centre = grey[:, 1:-1, 1:-1]
    energies.append(4 * centre - grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2])
    energies.append(grey[:, 1:, 1:] - grey[:, :-1, :-1])
    sharpness = [(energy.square().mean((1, 2)) + _TINY).log() for energy in energies]
    return torch.stack([*sharpness, contrast], dim=-1)


def colour_fringes(pixels: Tensor) -> Tensor:
    """[B, 3, N, N] to [B, 10]."""
    channels = pixels - pixels.mean((2, 3), keepdim=True)
    channels = channels / (channels.std((2, 3), keepdim=True) + 1e-3)
    dy, dx = torch.gradient(channels, dim=(2, 3))  # [B, 3, N, N] each
    ramp = torch.linspace(-1, 1, pixels.shape[-1], device=pixels.device)
    zoom = dx * ramp + dy * ramp[:, None]
    cues = []
    for other in (0, 2):  # red and blue against green
        difference = channels[:, other] - channels[:, 1]
        cues += [_project(difference, moved[:, 1]) for moved in (dx, dy, zoom)]
        cues += [_correlation(moved[:, other], moved[:, 1]) for moved in (dx, dy)]
    return torch.stack(cues, dim=-1)


def jpeg_grid(pixels: Tensor) -> Tensor:
    """[B, 3, N, N] to [B, 24]."""
    grey = _grey(pixels)
    place = torch.arange(pixels.shape[-1] - 2, device=pixels.device)
    waves = torch.exp(-2j * torch.pi * place[:, None] / torch.tensor(_PERIODS, device=pixels.device))  # [N - 2, 12]
    cues = []
    for lines in (grey, grey.transpose(1, 2)):  # along x, along y
        bends = (lines[..., 2:] - 2 * lines[..., 1:-1] + lines[..., :-2]).abs().mean(1)  # [B, N - 2]
        level = bends.mean(1, keepdim=True)
        power = ((bends - level).to(waves.dtype) @ waves).abs() / (level + _TINY)
        cues.append((power + 1e-3).log())
    return torch.cat(cues, dim=-1)


def borders(pixels: Tensor) -> Tensor:
    """[B, 3, N, N] to [B, 16]."""
    grey = _grey(pixels)
    inside_mean, inside_variance = grey.mean((1, 2)), _log_variance(grey)
    cues = []
    for depth in (1, max(2, pixels.shape[-1] // 8)):
        for strip in (grey[:, :depth], grey[:, -depth:], grey[:, :, :depth], grey[:, :, -depth:]):
            cues += [strip.mean((1, 2)) - inside_mean, _log_variance(strip) - inside_variance]
    return torch.stack(cues, dim=-1)


def mean_colour(pixels: Tensor) -> Tensor:
    """[B, 3, N, N] to [B, 3]."""
    return pixels.mean((2, 3))


CUES: dict[str, Callable[[Tensor], Tensor]] = {
    "blur": blur,
    "colour_fringes": colour_fringes,
    "jpeg_grid": jpeg_grid,
    "borders": borders,
    "mean_colour": mean_colour,
}
SIZES = {"blur": 9, "colour_fringes": 10, "jpeg_grid": 24, "borders": 16, "mean_colour": 3}  # C


class LowLevelCues(nn.Module):
    """Probed like an encoder: the class token is all cues, one after the other in the order of :data:`CUES`."""

    version = 1

    def __init__(self) -> None:
        super().__init__()
        self.cues = f"{self.version}: {', '.join(CUES)}"  # part of the key under which features are cached

    def patches_of(self, size: int) -> tuple[int, int]:
        """One patch, which says nothing; raises ValueError where there is no room for the statistics."""
        if size < SMALLEST:
            raise InputError(f"crops of {size} px are too small for the low-level cues; give them {SMALLEST} or more")
        return 1, 1

    def forward(self, pixels: Tensor) -> Encoding:
        """Pixels float [B, 3, N, N] to cls [B, 62], patches [B, 1, 1]."""
        cls = torch.cat([cue(pixels.float()) for cue in CUES.values()], dim=-1)
        return Encoding(cls, cls.new_zeros(len(cls), 1, 1), (1, 1))


def cue_columns(cue: str) -> slice:
    """Which of the class token's numbers are of one cue."""
    names = list(CUES)
    start = sum(SIZES[name] for name in names[: names.index(cue)])
    return slice(start, start + SIZES[cue])


def clipped(train: Tensor, validation: Tensor) -> tuple[Tensor, Tensor]:
    """Cues of both sides, [..., C] each, within the 1st and 99th percentile of the training side's.

    They are logs, ratios and projections, of which a few lie far out; a linear fit to a hundred images then answers one
    odd crop with anything (blur: an R2 of -16.6).
    """
    columns = train.flatten(0, -2).double().numpy()
    low, high = (torch.from_numpy(np.percentile(columns, share, axis=0)).to(train) for share in OUTERMOST)
    return train.clamp(low, high), validation.clamp(low, high)


def _grey(pixels: Tensor) -> Tensor:
    return pixels.mean(1)  # [B, N, N]


def _project(values: Tensor, onto: Tensor) -> Tensor:
    """Least-squares factor of ``onto`` in ``values``: [B, N, N] twice to [B]."""
    return (values * onto).sum((1, 2)) / (onto.square().sum((1, 2)) + 1e-3)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2)) / ((a.square().sum((1, 2)) * b.square().sum((1, 2))).sqrt() + _TINY)


def _log_variance(values: Tensor) -> Tensor:
    return (values.var((1, 2)) + 1e-4).log()

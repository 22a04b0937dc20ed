"""Point estimates with 95 % intervals, by the bootstrap over images (Efron 1979; percentile intervals).

Every figure of the probes is a ratio of sums over images: an accuracy is correct / asked, a mean error is error /
pairs, an R2 is 1 - residual / total. Images are resampled, never crops or pairs, which are not independent.

Letters: n images, M figures.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

RESAMPLES = 1000
_CHUNK = 50  # resamples at a time


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def scaled(self, factor: float) -> Estimate:
        """In another unit (``factor`` > 0), e.g. 100 for per cent."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def complement(self) -> Estimate:
        """1 - x: an R2 from a fraction of unexplained variance."""
        return Estimate(1 - self.value, 1 - self.high, 1 - self.low)


def ratio_of_sums(numerators: Tensor, denominators: Tensor, *, seed: int, resamples: int = RESAMPLES) -> list[Estimate]:
    """sum(numerators) / sum(denominators) for each figure, with its interval.

    Equal seeds and n give equal resamples, so that two models on the same images are compared in pairs.

    Args:
        numerators, denominators: [n, M], one row an image.
        seed: of the resampling; the global generator is left alone.
        resamples: how many.

    Returns:
        M estimates.

    Raises:
        ValueError: no images, or a figure whose denominators sum to zero.
    """
    both = torch.stack([numerators.double(), denominators.double()], dim=-1).cpu()  # [n, M, 2]
    n = both.shape[0]
    if n == 0 or (both[..., 1].sum(0) <= 0).any():
        raise ValueError(f"nothing to divide by: {n} images, denominators sum to {both[..., 1].sum(0).tolist()}")
    values = both[..., 0].sum(0) / both[..., 1].sum(0)  # [M]
    generator = torch.Generator().manual_seed(seed)
    ratios = []
    for start in range(0, resamples, _CHUNK):
        rows = torch.randint(n, (min(_CHUNK, resamples - start), n), generator=generator)
        sums = both[rows].sum(1)  # [r, M, 2]
        ratios.append(sums[..., 0] / sums[..., 1])
    low, high = torch.cat(ratios).nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    return [Estimate(*figures) for figures in zip(values.tolist(), low.tolist(), high.tolist(), strict=True)]

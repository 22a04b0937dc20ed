"""A figure of a report, kept as its sums over images, so that it has an interval and can be compared in pairs.

Nearly every figure is a ratio of sums over images, or the mean of such ratios over groups: an accuracy is correct /
asked, mean per-class accuracy the mean of that over classes, mIoU the mean of intersection / union over classes, mean
corruption error the mean of errors / baseline's errors over corruptions, an R2 is 1 - residual / total, an RMSE the
root of squared error / pixels. Intervals are percentiles of the bootstrap over images (Efron 1979, "Bootstrap methods:
another look at the jackknife"), never over crops, pairs or pixels, which are not independent.

Letters: n images, G groups, R resamples.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import InputError

RESAMPLES = 1000
_CHUNK = 100  # resamples at a time

Form = Literal["mean", "complement", "root"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """One figure as its sums over images.

    Args:
        numerators, denominators: [n, G] (or [n], one group), one row an image. Kept in float64 on the CPU.
        form: ``"mean"`` of the groups' ratios, its ``"complement"`` (1 - mean), or its square ``"root"``.
        percent: shown times 100.
        higher_is_better: which way is good.
        chance: what guessing gets, where that is known.

    Raises:
        ValueError: no images, shapes that differ, or denominators that sum to zero in every group.
    """

    numerators: Tensor
    denominators: Tensor
    form: Form = "mean"
    percent: bool = False
    higher_is_better: bool = True
    chance: float | None = None

    def __post_init__(self) -> None:
        for name in ("numerators", "denominators"):
            values = getattr(self, name).detach().double().cpu()
            object.__setattr__(self, name, values[:, None] if values.dim() == 1 else values)
        if self.numerators.shape != self.denominators.shape:
            raise InputError(f"shapes differ: {tuple(self.numerators.shape)}, {tuple(self.denominators.shape)}")
        if self.n == 0 or not (self.denominators.sum(0) > 0).any():
            raise InputError(f"nothing to divide by: {self.n} images, denominators {self.denominators.sum(0).tolist()}")

    @classmethod
    def of(cls, values: Tensor, **options: Any) -> Measure:
        """The mean of one value an image ([n]); for instance correct or not."""
        return cls(values, torch.ones(values.shape, dtype=torch.float64), **options)

    @property
    def n(self) -> int:
        """How many images it is about."""
        return self.numerators.shape[0]

    @property
    def value(self) -> float:
        return float(self._combine(self.numerators.sum(0), self.denominators.sum(0)))

    def groups(self) -> list[float | None]:
        """The ratio of each group (for instance a class), ``None`` where a group has nothing to divide by."""
        numerators, denominators = self.numerators.sum(0).tolist(), self.denominators.sum(0).tolist()
        return [a / b if b > 0 else None for a, b in zip(numerators, denominators, strict=True)]

    def estimate(self, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
        """The figure with its 95 % interval; ``seed`` is the resampling's, the global generator is left alone."""
        return _estimate(self.value, self._resampled(seed, resamples))

    def _resampled(self, seed: int, resamples: int) -> Tensor:
        """float64 [R]. Equal seeds and n give equal resamples, so that two models are resampled in pairs."""
        generator = torch.Generator().manual_seed(seed)
        figures = []
        for start in range(0, resamples, _CHUNK):
            rows = torch.randint(self.n, (min(_CHUNK, resamples - start), self.n), generator=generator)  # [r, n]
            counts = torch.zeros(rows.shape, dtype=torch.float64)
            counts.scatter_add_(1, rows, torch.ones_like(counts))  # how often each image was drawn
            figures.append(self._combine(counts @ self.numerators, counts @ self.denominators))
        return torch.cat(figures)

    def _combine(self, numerators: Tensor, denominators: Tensor) -> Tensor:
        """Sums [..., G] to figures [...]; groups without a denominator are left out."""
        ratios = torch.where(denominators > 0, numerators / denominators, torch.nan)
        mean = ratios.nanmean(-1)
        if self.form == "complement":
            return 1 - mean
        return mean.sqrt() if self.form == "root" else mean


def paired_difference(a: Measure, b: Measure, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """``a - b`` on the same images, resampled together: how much better ``a`` is, with its interval.

    Raises:
        ValueError: they are not about the same number of images.
    """
    if a.n != b.n:
        raise InputError(f"measured on {a.n} and on {b.n} images: not comparable in pairs")
    return _estimate(a.value - b.value, a._resampled(seed, resamples) - b._resampled(seed, resamples))


def _estimate(value: float, resampled: Tensor) -> Estimate:
    low, high = resampled.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(value, low, high)

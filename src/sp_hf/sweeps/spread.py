r"""Means over seeds, and differences with an interval that knows of both seeds and images.

A difference between two runs of one seed, measured on the same images, has an interval over images (a paired
bootstrap, :mod:`sp_hf.evaluation.measure`). Seeds add their own spread. With k seeds, differences d_1 .. d_k of
standard deviation s, and half-widths h_1 .. h_k of their intervals over images, the mean difference has the 95 %
interval

    mean(d) +- sqrt( (t_{0.975, k-1} s / sqrt(k))^2 + mean(h)^2 )

The first term is Student's interval of paired differences; the second is not divided by sqrt(k), as all seeds may be
measured on the same images. So the interval is rather too wide than too narrow. One seed has no first term: no
interval is given then.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from scipy.stats import t as student

from ..errors import InputError


@dataclasses.dataclass(frozen=True)
class Spread:
    """Values over seeds: their mean and standard deviation (``nan`` for one seed)."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan


@dataclasses.dataclass(frozen=True)
class Difference:
    """A mean difference and its 95 % interval; ``low`` and ``high`` are ``nan`` for one seed."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval is clear of zero, else 0."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


def combined_difference(differences: Sequence[float], half_widths: Sequence[float]) -> Difference:
    """The mean difference over seeds with its interval.

    Args:
        differences: one a seed.
        half_widths: of their intervals over images.

    Raises:
        ValueError: none, or not one half-width a difference.
    """
    if not differences or len(differences) != len(half_widths):
        raise InputError(f"{len(differences)} differences and {len(half_widths)} half-widths")
    k, mean = len(differences), statistics.fmean(differences)
    if k == 1:
        return Difference(mean, math.nan, math.nan)
    seeds = student.ppf(0.975, k - 1) * statistics.stdev(differences) / math.sqrt(k)
    half = math.hypot(float(seeds), statistics.fmean(half_widths))
    return Difference(mean, mean - half, mean + half)

"""A metric of a report, kept as its sums over images, so that it has an interval and can be compared in pairs.

Nearly every metric is a ratio of sums over images, or the mean of such ratios over groups: an accuracy is correct /
asked, mean per-class accuracy the mean of that over classes, mIoU the mean of intersection / union over classes, mean
corruption error the mean of errors / baseline's errors over corruptions, an R2 is 1 - residual / total, an RMSE the
root of squared error / pixels.

Two things make a metric uncertain, and intervals (95 %) hold both:

- **which images were asked**: percentiles of the bootstrap over images (Efron 1979, "Bootstrap methods: another look at
  the jackknife"), never over crops, pairs or pixels, which are not independent. A plain proportion, such as accuracy,
  has Wilson's interval in its place (:mod:`sp_hf.evaluation.proportion`), as the bootstrap fails for rare events.
- **which images the probe was fitted to**, where the probe is cheap: it is fitted again to random halves of them
  (:mod:`sp_hf.evaluation.probes.refits`), and the spread of the metrics is added, with Student's t for their number.

Letters: n images, G groups, R resamples, F refits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import norm
from scipy.stats import t as student_t
from torch import Tensor

from ..errors import InputError
from .proportion import paired_proportions, wilson_interval

RESAMPLES = 1000
TINY_GROUP = 5  # images; the bootstrap over fewer says little
_CHUNK = 100  # resamples at a time

Form = Literal["mean", "complement", "root"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A metric and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """One metric as its sums over images.

    Args:
        numerators, denominators: [n, G] (or [n], one group), one row an image. Kept in float64 on the CPU.
        form: ``"mean"`` of the groups' ratios, its ``"complement"`` (1 - mean), or its square ``"root"``.
        percent: shown times 100.
        higher_is_better: which way is good.
        chance: what guessing gets, where that is known.
        refits: this metric of probes that were fitted to random halves of the training images, the same halves for
            every model; empty where the probe was not fitted again.

    Raises:
        ValueError: no images, shapes that differ, or denominators that sum to zero in every group.
    """

    numerators: Tensor
    denominators: Tensor
    form: Form = "mean"
    percent: bool = False
    higher_is_better: bool = True
    chance: float | None = None
    refits: tuple[float, ...] = ()

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

    @property
    def is_proportion(self) -> bool:
        """Whether it counts images: each is asked or not, and right or wrong."""
        binary = all(bool(((x == 0) | (x == 1)).all()) for x in (self.numerators, self.denominators))
        nested = bool((self.numerators <= self.denominators).all())
        return self.form == "mean" and self.numerators.shape[1] == 1 and binary and nested

    @property
    def interval(self) -> Literal["wilson", "bootstrap"]:
        """How its interval is made: by Wilson's formula, or by drawing images anew."""
        return "wilson" if self.is_proportion else "bootstrap"

    @property
    def warning(self) -> str | None:
        """Why its interval is not to be trusted, if it is not: it is a mean over groups of very few images."""
        sizes = (self.denominators > 0).sum(0)
        tiny, groups = int(((sizes > 0) & (sizes < TINY_GROUP)).sum()), int((sizes > 0).sum())
        if groups < 2 or not tiny:
            return None
        return f"{tiny} of its {groups} groups have fewer than {TINY_GROUP} images: its interval is too narrow"

    def estimate(self, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
        """The metric with its 95 % interval; ``seed`` is the resampling's, the global generator is left alone."""
        if self.is_proportion:
            asked, right = int(self.denominators.sum()), int(self.numerators.sum())
            return Estimate(self.value, *wilson_interval(right, asked, _refit_error(self.refits)))
        return _estimate(self.value, self._resampled(seed, resamples), self.refits, seed)

    def _resampled(self, seed: int, resamples: int) -> Tensor:
        """float64 [R]. Equal seeds and n give equal resamples, so that two models are resampled in pairs."""
        generator = torch.Generator().manual_seed(seed)
        metrics = []
        for start in range(0, resamples, _CHUNK):
            rows = torch.randint(self.n, (min(_CHUNK, resamples - start), self.n), generator=generator)  # [r, n]
            counts = torch.zeros(rows.shape, dtype=torch.float64)
            counts.scatter_add_(1, rows, torch.ones_like(counts))  # how often each image was drawn
            metrics.append(self._of_counts(counts))
        return torch.cat(metrics)

    def _of_counts(self, counts: Tensor) -> Tensor:
        """The metric of images that count so often: float64 [r, n] to [r]."""
        return self._combine(counts @ self.numerators, counts @ self.denominators)

    def _combine(self, numerators: Tensor, denominators: Tensor) -> Tensor:
        """Sums [..., G] to metrics [...]; groups without a denominator are left out."""
        ratios = torch.where(denominators > 0, numerators / denominators, torch.nan)
        mean = ratios.nanmean(-1)
        if self.form == "complement":
            return 1 - mean
        return mean.sqrt() if self.form == "root" else mean


def paired_difference(a: Measure, b: Measure, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """``a - b`` on the same images, resampled together: how much better ``a`` is, with its interval.

    Probes that were both refitted, were so to the same halves of the training images: those differ in pairs, too.

    Raises:
        ValueError: they are not about the same number of images.
    """
    if a.n != b.n:
        raise InputError(f"measured on {a.n} and on {b.n} images: not comparable in pairs")
    refits: tuple[float, ...] = ()
    if len(a.refits) == len(b.refits):
        refits = tuple(ours - theirs for ours, theirs in zip(a.refits, b.refits, strict=True))
    if a.is_proportion and b.is_proportion and torch.equal(a.denominators, b.denominators):
        asked = a.denominators.bool()
        ours, theirs = a.numerators[asked].bool(), b.numerators[asked].bool()
        only = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        return Estimate(a.value - b.value, *paired_proportions(*only, len(ours), _refit_error(refits)))
    return _estimate(a.value - b.value, a._resampled(seed, resamples) - b._resampled(seed, resamples), refits, seed)


def with_refits(measures: Mapping[str, Measure], refitted: Sequence[Mapping[str, Measure]]) -> dict[str, Measure]:
    """Metrics with those of refitted probes, by the same names."""
    return {
        name: dataclasses.replace(measure, refits=tuple(of_refit[name].value for of_refit in refitted))
        for name, measure in measures.items()
    }


def _refit_error(refits: Sequence[float]) -> float:
    """Standard error that the choice of training images adds, for use with the normal distribution's quantiles: wider
    than the refits' spread, as they are few. 0 for fewer than two."""
    if len(refits) < 2:
        return 0.0
    return float(np.std(refits, ddof=1)) * float(student_t.ppf(0.975, len(refits) - 1) / norm.ppf(0.975))


def _estimate(value: float, resampled: Tensor, refits: Sequence[float] = (), seed: int = 0) -> Estimate:
    """From resampled metrics [R], to which the refits' spread is added."""
    if len(refits) > 1 and np.std(refits) > 0:
        drawn = np.random.default_rng(seed).standard_t(len(refits) - 1, len(resampled))
        resampled = resampled + float(np.std(refits, ddof=1)) * torch.from_numpy(drawn)
    low, high = resampled.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(value, low, high)

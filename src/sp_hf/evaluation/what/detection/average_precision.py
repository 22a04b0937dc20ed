"""COCO's average precision as a metric with an interval over images.

Average precision is no ratio of sums over images, but it is a function of how often each image counts: detections stay
matched and sorted, and an image that was drawn twice has its detections and its objects twice. So the bootstrap over
images is exact, and one resample costs a cumulative sum.

Letters: n images, R resamples, T thresholds of IoU, d detections of a class, t true ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ...measure import Measure
from .coco import Matches

_RECALLS = torch.linspace(0, 1, 101, dtype=torch.float64)
_EPSILON = 2.0**-52  # as pycocotools has it, where nothing was detected yet


@dataclasses.dataclass(frozen=True, eq=False)
class AveragePrecision(Measure):
    """Mean over classes and thresholds of interpolated precision at 101 recalls (Lin et al. 2014, 1405.0312).

    Args:
        matches: of each class; those without objects count nowhere.
        resampled: by seed and number, as intervals and all differences need the same ones.
    """

    matches: Sequence[Matches] = ()
    resampled: dict[tuple[int, int], Tensor] = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def of_matches(cls, matches: Sequence[Matches], thresholds: slice = slice(None)) -> AveragePrecision:
        """Over some of the thresholds of IoU, which are 0.5, 0.55, ... 0.95."""
        one = torch.ones(len(matches[0].objects), dtype=torch.float64)
        chosen = [m._replace(true=m.true[thresholds], false=m.false[thresholds]) for m in matches]
        return cls(one, one, percent=True, matches=chosen)

    @property
    def value(self) -> float:
        return float(self._of_counts(torch.ones(1, self.n, dtype=torch.float64)))

    @property
    def is_proportion(self) -> bool:
        return False

    def groups(self) -> list[float | None]:
        """Average precision of each class, ``None`` without objects."""
        one = torch.ones(1, self.n, dtype=torch.float64)
        return [float(_of_class(m, one)) if float(m.objects.sum()) else None for m in self.matches]

    def _resampled(self, seed: int, resamples: int) -> Tensor:
        if (seed, resamples) not in self.resampled:
            self.resampled[seed, resamples] = super()._resampled(seed, resamples)
        return self.resampled[seed, resamples]

    def _of_counts(self, counts: Tensor) -> Tensor:
        return torch.stack([_of_class(m, counts) for m in self.matches]).nanmean(0)


def _of_class(matches: Matches, counts: Tensor) -> Tensor:
    """Of images that count so often [R, n]: [R], NaN where there are no objects.

    Recall rises at true detections alone, and precision is largest there, so that only they are looked at.
    """
    objects = counts @ matches.objects  # [R]
    weights = counts[:, matches.image]  # [R, d]
    total = torch.zeros_like(objects)
    for true, false in zip(matches.true, matches.false, strict=True):
        places = true.nonzero().flatten()  # [t]
        right, wrong = weights[:, places].cumsum(1), (weights * false).cumsum(1)[:, places]  # [R, t]
        total += _interpolated(right / objects[:, None], right / (right + wrong + _EPSILON)).mean(1)
    return torch.where(objects > 0, total / len(matches.true), torch.nan)


def _interpolated(recall: Tensor, precision: Tensor) -> Tensor:
    """The best precision at each recall or a higher one [R, 101], 0 where it is never reached; both are [R, t]."""
    best = precision.flip(1).cummax(1).values.flip(1) if precision.shape[1] else precision
    best = torch.nn.functional.pad(best, (0, 1))
    return best.gather(1, torch.searchsorted(recall.contiguous(), _RECALLS.expand(len(recall), -1).contiguous()))

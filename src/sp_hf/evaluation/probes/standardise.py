"""Features in units of their spread over the training images.

Letters: D features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 16_384  # at a time
_ROUNDING = 1e-6  # relative spread of a feature below which float32 says nothing


class Standardisation(NamedTuple):
    """A change of units.

    Args:
        mean, scale: [D], of the training features; the scale is infinite where one is constant.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standardisation:
        """That of features [..., D]."""
        return cls(features.mean(tuple(range(features.dim() - 1))), spread(features))

    @classmethod
    def of_rows(cls, features: Tensor, rows: Tensor) -> Standardisation:
        """That of some rows (int64 [n]) of features [m, D], which may be memory-mapped: read in chunks, in float64."""
        parts = rows.split(_ROWS)
        total, squares, largest = torch.zeros(3, features.shape[1], dtype=torch.float64)
        for part in parts:
            chunk = features[part].double()
            total += chunk.sum(0)
            largest = torch.maximum(largest, chunk.abs().amax(0))
        mean = total / len(rows)
        for part in parts:
            squares += (features[part].double() - mean).square().sum(0)
        scale = (squares / (len(rows) - 1)).sqrt()
        return cls(mean.float(), scale.masked_fill(scale <= _ROUNDING * largest, torch.inf).float())

    def __call__(self, features: Tensor) -> Tensor:
        """Features [..., D] less the mean, in units of the scale: 0 where they were constant."""
        return (features - self.mean) / self.scale


def spread(features: Tensor, centred: Tensor | None = None) -> Tensor:
    """Standard deviation of each feature, [..., D] to [D]; infinite where one is constant.

    Constant but for rounding, that is: divided by it, such a feature is 0, not amplified rounding.

    Args:
        features: as they are, which tells how large rounding is.
        centred: the same less what is taken from them; ``None``: nothing is.
    """
    scale = (features if centred is None else centred).flatten(0, -2).std(0)
    return scale.masked_fill(scale <= _ROUNDING * features.abs().flatten(0, -2).amax(0), torch.inf)

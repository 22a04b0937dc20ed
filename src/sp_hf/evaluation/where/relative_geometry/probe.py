"""The headline probe of relative geometry: ridge regression on the concatenated features of a pair, in closed form.

A relation in image units is a difference, z_j - z_i, of coordinates z = (cx, cy, ln w, ln h). Over all ordered pairs
of an image, ridge on [f_i, f_j] is unchanged by swapping i and j and the signs, so its solution has the form
W (f_j - f_i), and the sum of squares over the pairs equals 2 V times that over the crops, each less its image's mean.
The fit is thus a ridge regression of centred coordinates on centred features, n V rows instead of n V (V - 1).

Letters: n images, V crops of an image, D feature size, T = 4 targets.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...features import Features
from ...probes.ridge import fit_ridge

MIN_IMAGES = 10
_HELD_OUT = 0.2  # of the training images
_ROUNDING = 1e-6  # relative spread of a feature below which float32 says nothing


def embedding(features: Features) -> Tensor:
    """Class token and mean patch token: [n, V, 2 D]."""
    return torch.cat([features.cls, features.mean_patch], dim=-1)


def spread(features: Tensor) -> Tensor:
    """Standard deviation of each feature over the crops, [n, V, D] to [D]; infinite where one is constant.

    Constant but for rounding, that is: divided by it, such a feature is 0, not amplified rounding.
    """
    scale = features.flatten(0, 1).std(0)
    return scale.masked_fill(scale <= _ROUNDING * features.abs().amax((0, 1)), torch.inf)


def hold_out(n: int, seed: int) -> Tensor:
    """bool [n]: the fifth of the training images, whole, on which probes choose; never those that are reported.

    Raises:
        ValueError: too few images to hold some out.
    """
    if n < MIN_IMAGES:
        raise ValueError(f"{n} training images are too few for the where-probe; it needs {MIN_IMAGES} or more")
    held_out = torch.zeros(n, dtype=torch.bool)
    held_out[torch.randperm(n, generator=torch.Generator().manual_seed(seed))[: max(1, round(_HELD_OUT * n))]] = True
    return held_out


@dataclasses.dataclass(frozen=True)
class RelationProbe:
    """A linear map from the features of crops to coordinates whose differences are relations.

    Args:
        scale: [D], standard deviation of the training crops' features; infinite where one is constant.
        weights: [D, T].
        penalties: [T], chosen.
    """

    scale: Tensor
    weights: Tensor
    penalties: Tensor

    @classmethod
    def fit(cls, features: Tensor, boxes: Tensor, *, seed: int) -> RelationProbe:
        """Fit to all ordered pairs of the training images (see the module's closed form).

        The penalty of each target is chosen on held-out training images; the fit is then repeated on all of them.

        Args:
            features: [n, V, D].
            boxes: [n, V, 4], cxcywh.
            seed: of the choice of the held-out images.

        Raises:
            ValueError: too few images to hold some out.
        """
        n, crops = features.shape[:2]
        held_out = hold_out(n, seed)
        features = features.double()
        scale = spread(features)
        x = _centred(features / scale)
        y = _centred(_coordinates(boxes.double()))
        weights, penalties = fit_ridge(x.flatten(0, 1), y.flatten(0, 1), held_out.repeat_interleave(crops))
        return cls(scale, weights, penalties)

    def predict(self, first: Tensor, second: Tensor) -> Tensor:
        """Relations of second to first crops, in image units: features [..., D] twice to float64 [..., T]."""
        return ((second.double() - first.double()) / self.scale) @ self.weights


def _coordinates(boxes: Tensor) -> Tensor:
    """(cx, cy, ln w, ln h), whose differences are relations in image units."""
    return torch.cat([boxes[..., :2], boxes[..., 2:].log()], dim=-1)


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(1, keepdim=True)

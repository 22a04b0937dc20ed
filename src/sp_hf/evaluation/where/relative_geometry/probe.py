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
from ...probes.hold_out import hold_out
from ...probes.ridge import fit_ridge
from ...probes.standardise import spread

PROBE = "the where-probe"  # in errors


def embedding(features: Features) -> Tensor:
    """Class token and mean patch token: [n, V, 2 D]."""
    return torch.cat([features.cls, features.mean_patch], dim=-1)


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
        held_out = hold_out(n, seed, PROBE)
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

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
from ...probes.ridge import fit_ridge, solve_ridge
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
        scale, x, y = _standardised(features, boxes)
        weights, penalties = fit_ridge(x, y, held_out.repeat_interleave(crops))
        return cls(scale, weights, penalties)

    def refit(self, features: Tensor, boxes: Tensor) -> RelationProbe:
        """With these penalties, fitted to other images; arguments as for :meth:`fit`."""
        scale, x, y = _standardised(features, boxes)
        return RelationProbe(scale, solve_ridge(x, y, self.penalties), self.penalties)

    def predict(self, first: Tensor, second: Tensor) -> Tensor:
        """Relations of second to first crops, in image units: features [..., D] twice to float64 [..., T]."""
        return ((second.double() - first.double()) / self.scale) @ self.weights


def _standardised(features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale [D], and less their images' means the features in its units [n V, D] and the coordinates [n V, T]."""
    features = features.double()
    scale = spread(features)
    return scale, centred(features / scale).flatten(0, 1), centred(coordinates(boxes.double())).flatten(0, 1)


def coordinates(boxes: Tensor) -> Tensor:
    """(cx, cy, ln w, ln h), whose differences are relations in image units."""
    return torch.cat([boxes[..., :2], boxes[..., 2:].log()], dim=-1)


def centred(values: Tensor) -> Tensor:
    """Less the mean over an image's crops: [n, V, ...] to the same."""
    return values - values.mean(1, keepdim=True)

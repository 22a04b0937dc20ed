"""What a model's features tell of relative geometry beyond low-level cues.

Cues c predict the coordinates y of crops and their features f, both by ridge regression; what is left of the features
then predicts what is left of the coordinates (Robinson 1988, "Root-N-consistent semiparametric regression"):

    y - E(y | c)  ~  W' (f - E(f | c))        R2 beyond cues = R2(E(y | c) + W' (f - E(f | c))) - R2(E(y | c))

all R2 being of validation images. **Cross-fitting** (Chernozhukov et al. 2018, "Double/debiased machine learning",
arXiv:1608.00060): E( | c) of a training image comes from a fit to other training images, or its residuals would be
those of an overfitted regression, smaller than the ones of validation images, and so would W be. Cues and features have
penalties of their own, so that many features without use cost nothing.

Letters: n images, V crops of an image, D feature size, C cues, T = 4 coordinates, K folds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ....errors import InputError
from ....views.pairs import ordered_pairs
from ...features import Features
from ...measure import Measure, with_refits
from ...probes.hold_out import hold_out
from ...probes.refits import random_halves
from ...probes.ridge import fit_ridge, solve_ridge
from ...probes.standardise import spread
from .measures import relation_measures
from .probe import PROBE, centred, coordinates, embedding

FOLDS = 5
TARGETS = ("position", "scale")

Sides = tuple[Features, Features]  # training, validation


class _Crops(NamedTuple):
    """Of both sides: cues [n, V, C], features [n, V, D] and coordinates [n, V, T], less their images' means."""

    cues: tuple[Tensor, Tensor]
    features: tuple[Tensor, Tensor]
    coordinates: tuple[Tensor, Tensor]

    def half(self, rows: Tensor) -> _Crops:
        """With only these training images."""
        return _Crops(*((train[rows], validation) for train, validation in self))


def beyond_cues(cues: Sides, features: Sides, seed: int = 0, refits: int = 0) -> dict[str, Measure]:
    """The R2 that a model's features add to that of all cues: ``r2_<target>_beyond_cues``.

    Args:
        cues, features: training and validation side, of the same crops.
        seed: of folds, held-out training images and refits.
        refits: to halves of the training images.

    Raises:
        ValueError: the crops differ, or too few training images.
    """
    for ours, theirs in zip(cues, features, strict=True):
        if ours.boxes.shape != theirs.boxes.shape or not torch.allclose(ours.boxes, theirs.boxes, atol=1e-5):
            raise InputError("the cues and the features are of different crops: not comparable")
    crops = _Crops(
        _standardised(*(side.cls for side in cues)),
        _standardised(*(embedding(side) for side in features)),
        (centred(coordinates(features[0].boxes.double())), centred(coordinates(features[1].boxes.double()))),
    )
    boxes = features[1].boxes.double()
    measures, penalties = _fit(crops, boxes, seed)
    halves = random_halves(len(crops.cues[0]), refits, seed)
    return with_refits(measures, [_fit(crops.half(half), boxes, seed, penalties)[0] for half in halves])


def _standardised(train: Tensor, validation: Tensor) -> tuple[Tensor, Tensor]:
    scale = spread(train.double())
    return centred(train.double() / scale), centred(validation.double() / scale)


class _Penalties(NamedTuple):
    """Of cues [D + T], of features [T]."""

    cues: Tensor
    features: Tensor


def _fit(
    crops: _Crops, boxes: Tensor, seed: int, penalties: _Penalties | None = None
) -> tuple[dict[str, Measure], _Penalties]:
    """The metrics, and the penalties: chosen on held-out images unless they are given."""
    n, count = crops.cues[0].shape[:2]
    size = crops.features[0].shape[-1]
    known = [torch.cat(pair, dim=-1) for pair in zip(crops.features, crops.coordinates, strict=True)]  # [n, V, D + T]
    if penalties is None:
        held_out = hold_out(n, seed, PROBE).repeat_interleave(count)
        of_cues = fit_ridge(crops.cues[0].flatten(0, 1), known[0].flatten(0, 1), held_out)[1]
    else:
        of_cues = penalties.cues
    part_of_cues = _told_by_cues(crops.cues, known[0], of_cues, seed)
    left = (known[0] - part_of_cues[0]).flatten(0, 1)
    if penalties is None:
        weights, of_features = fit_ridge(left[:, :size], left[:, size:], held_out)
    else:
        weights, of_features = solve_ridge(left[:, :size], left[:, size:], penalties.features), penalties.features
    by_cues = part_of_cues[1][..., size:]
    by_both = by_cues + (crops.features[1] - part_of_cues[1][..., :size]) @ weights
    first, second = ordered_pairs(count)
    alone, both = (
        relation_measures(boxes[:, first], boxes[:, second], answer[:, second] - answer[:, first])
        for answer in (by_cues, by_both)
    )
    measures = {f"r2_{target}_beyond_cues": _gain(alone[f"r2_{target}"], both[f"r2_{target}"]) for target in TARGETS}
    return measures, _Penalties(of_cues, of_features)


def _gain(alone: Measure, both: Measure) -> Measure:
    """Both are 1 - residual / total, of the same total."""
    return Measure(alone.numerators - both.numerators, both.denominators, chance=0.0)


def _told_by_cues(cues: tuple[Tensor, Tensor], known: Tensor, penalties: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """What cues tell of features and coordinates [n, V, D + T]: of each training image by a fit to the other folds, of
    validation images by a fit to all."""
    train, validation = cues
    fold = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)) % FOLDS

    def weights(rows: Tensor | slice) -> Tensor:
        return solve_ridge(train[rows].flatten(0, 1), known[rows].flatten(0, 1), penalties)

    predicted = torch.empty_like(known)
    for k in range(FOLDS):
        predicted[fold == k] = train[fold == k] @ weights(fold != k)
    return predicted, validation @ weights(slice(None))

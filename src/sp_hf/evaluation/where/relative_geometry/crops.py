"""Features of the protocol's crops, of both sides: of a model, and of the low-level cues, which all models share."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ...controls.low_level_cues import SMALLEST, LowLevelCues, clipped
from ...features import Features
from ...model import CUES, EvaluatedModel, Preprocess

if TYPE_CHECKING:
    from ....views.spec import ViewSpec
    from ...data import EvaluationData

Sides = tuple[Features, Features]  # training, validation


def crops_of(
    model: EvaluatedModel, data: EvaluationData, spec: ViewSpec, canvas_size: int, images: int | None
) -> Sides:
    """Features of both sides' crops, of one model; for those of the cues see :func:`cues_of`.

    Args:
        model: on its device.
        data: both sides.
        spec: of the crops.
        canvas_size: side in px at which images are kept.
        images: of each side, at most; ``None`` for all.
    """
    if model.role == "cues":
        return cues_of(data, spec, canvas_size, images)
    return _sides(model, data, spec, canvas_size, images)


def cues_of(data: EvaluationData, spec: ViewSpec, canvas_size: int, images: int | None) -> Sides:
    """The cues of the same crops, without outliers. Arguments as for :func:`crops_of`."""
    train, validation = _sides(_cues_model(), data, spec, canvas_size, images)
    cls = clipped(train.cls, validation.cls)
    return train._replace(cls=cls[0]), validation._replace(cls=cls[1])


@functools.cache
def _cues_model() -> EvaluatedModel:
    """It has no weights, and crops do not go through its preprocessing: one for all runs."""
    return EvaluatedModel(CUES, LowLevelCues().eval(), Preprocess.squash(SMALLEST), role="cues")


def _sides(model: EvaluatedModel, data: EvaluationData, spec: ViewSpec, canvas_size: int, images: int | None) -> Sides:
    train, validation = (
        data.crops(model, sample, spec, canvas_size, images) for sample in (data.train, data.validation)
    )
    return train, validation

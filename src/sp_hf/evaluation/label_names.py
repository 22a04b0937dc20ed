"""Classes that two sides of a dataset number differently, brought together by their names.

Folders number the classes that they hold in alphabetical order, so a side that lacks one numbers all later classes
otherwise. Letters: n images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from .features import ImageSample


def numbered_as(train: ImageSample, validation: ImageSample) -> ImageSample:
    """The validation side with labels that mean what they mean on the training side.

    Classes that the training side does not name get numbers after all of its own. Where either side has no names,
    numbers are all there is to go by, and stay.
    """
    ours, theirs = train.images.label_names, validation.images.label_names
    if validation.labels is None or ours is None or theirs is None or ours == theirs:
        return validation
    names = [*ours, *(name for name in theirs if name not in set(ours))]
    labels = renumbered(validation.labels, theirs, names)
    return validation._replace(labels=labels, images=dataclasses.replace(validation.images, label_names=names))


def renumbered(labels: Tensor, names: Sequence[str], new_names: Sequence[str]) -> Tensor:
    """Labels int64 [n] of ``names``, -1 for none, as those of ``new_names``, which hold them all."""
    place = {name: index for index, name in enumerate(new_names)}
    numbers = torch.tensor([place[name] for name in names], dtype=torch.int64)
    return torch.where(labels >= 0, numbers[labels.clamp(min=0)], -1)

"""What an objective costs: how often the encoder runs for an image, counted on a made-up batch, without running it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..views.keyed_random import sample_keys
from ..views.sampler import Views, ViewSampler
from ..views.spec import ViewSpec
from .base import Batch, Encode, Objective

IMAGES = 4


class Forwards(NamedTuple):
    """Forwards of the encoder an image, in patches, where a whole view of the model's size is 1.

    Args:
        with_gradient: of the student. without: of teachers, frozen copies, and the student for a look alone.
    """

    with_gradient: float
    without: float

    @property
    def weighed(self) -> float:
        """All of them, where one with gradient counts as three: its backward costs about two forwards."""
        return 3 * self.with_gradient + self.without


@torch.no_grad()
def encoder_forwards(objective: Objective, side: int = 224, patch: int = 16) -> Forwards:
    """What an objective asks to have encoded, each distinct (tower, view set, mask) once.

    Heads, decoders and the making of views are not in it. Views that refer to another objective's are left out: that
    one's are encoded anyway.

    Args:
        objective: built for an encoder of images of ``side`` pixels in patches of ``patch``.
    """
    batch, encodes = objective.prepared(_made_up(objective))
    distinct = {(e.tower, e.view, id(e.mask), e.gradient): e for e in encodes.values()}
    whole = (side // patch) ** 2 * IMAGES
    sums = [0.0, 0.0]
    for request in distinct.values():
        sums[not request.receives_gradient] += _patches(request, batch.views[request.view], patch) / whole
    return Forwards(*sums)


def _patches(request: Encode, views: Views, patch: int) -> int:
    """Patches that go through the encoder."""
    images, count, _, height, width = views.pixels.shape
    visible = request.mask.visible if request.mask is not None else None
    each = (height // patch) * (width // patch) if visible is None else visible.shape[-1]
    return images * count * each


def _made_up(objective: Objective) -> Batch:
    """A batch of images without content."""
    specs = {name: spec for name, spec in objective.view_specs().items() if isinstance(spec, ViewSpec)}
    keys = sample_keys(0, 0, IMAGES)
    canvases = torch.zeros(IMAGES, 3, 32, 32, dtype=torch.uint8)
    views = ViewSampler(specs)(canvases, torch.ones(IMAGES), keys)
    return Batch(views, keys, torch.zeros(IMAGES, dtype=torch.int64), torch.arange(IMAGES))

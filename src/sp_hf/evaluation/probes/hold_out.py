"""The training images on which probes choose their hyperparameters: a fifth, whole, and never those reported.

Letters: n images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import InputError

SHARE = 0.2
MIN_IMAGES = 10  # with fewer, two or fewer would choose


def hold_out(n: int, seed: int, probe: str) -> Tensor:
    """bool [n], the held-out images.

    Args:
        n: training images.
        seed: of the draw; the global generator is left alone.
        probe: what asks, for the error.

    Raises:
        ValueError: too few images to hold some out.
    """
    if n < MIN_IMAGES:
        raise InputError(f"{n} training images are too few for {probe}; it needs {MIN_IMAGES} or more")
    return first_share(torch.randperm(n, generator=torch.Generator().manual_seed(seed)))


def first_share(order: Tensor) -> Tensor:
    """bool [n], the first fifth of the images in this order (int64 [n]), but one at least."""
    held_out = torch.zeros(len(order), dtype=torch.bool)
    held_out[order[: max(1, round(SHARE * len(order)))]] = True
    return held_out


def hold_out_of_each_class(classes: Tensor, seed: int) -> Tensor:
    """bool [n]: a fifth of each class (int64 [n], counted from 0), but never its only image."""
    held_out = torch.zeros(len(classes), dtype=torch.bool)
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    for label in range(int(classes.max()) + 1):
        members = order[classes[order] == label]
        held_out[members[: round(SHARE * len(members))]] = True
    if not held_out.any():  # one or two images a class
        members = order[1:] if len(order) > 1 else order
        held_out[members[: max(1, round(SHARE * len(members)))]] = True
    return held_out

"""Random halves of the training images, to which probes are fitted again: how much a metric owes to them.

For a metric that is an average over training images to first order, the spread over random halves drawn without
replacement estimates its standard error over training sets of full size (Shao and Wu 1989, "A general theory for
jackknife variance estimation"): a half has twice the variance, and shares half of it with the whole. Unlike a
bootstrap, a half repeats no image, which nearest neighbours would count twice and held-out images would know.

Letters: n images, F refits.
"""

from __future__ import annotations

import torch
from torch import Tensor

REFITS = 20


def random_halves(n: int, count: int, seed: int, classes: Tensor | None = None) -> list[Tensor]:
    """Rows of F random halves, each sorted; equal arguments give equal halves, so models can be compared in pairs.

    Args:
        n: training images.
        count: F.
        seed: of the draws; the global generator is left alone.
        classes: int64 [n]; of each, half of the images are taken, rounded up or down at random, but one at least.
    """
    generator = torch.Generator().manual_seed(seed)
    group = torch.zeros(n, dtype=torch.int64) if classes is None else torch.unique(classes, return_inverse=True)[1]
    sizes = torch.bincount(group)
    starts = sizes.cumsum(0) - sizes
    halves = []
    for _ in range(count):
        shuffled = torch.randperm(n, generator=generator)
        by_group = shuffled[group[shuffled].sort(stable=True).indices]  # rows of each class together, in random order
        rank = torch.arange(n) - starts[group[by_group]]
        odd = torch.randint(2, sizes.shape, generator=generator)
        taken = ((sizes + odd) // 2).clamp(min=1)
        halves.append(by_group[rank < taken[group[by_group]]].sort().values)
    return halves

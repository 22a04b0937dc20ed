"""How well a pretext task is done by one who sees no pixels: the prior of its answers, as a batch itself shows it.

Where some answers are more frequent than others, or a patch's place in its view tells something (a crop's corner lies
more often in the corner of another crop), a task is done above chance without a look at the picture. Only what is
above this prior is learnt from content. An objective logs it beside its own metric, under the same name with
``_prior``.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def most_frequent_share(answers: Tensor, classes: int) -> Tensor:
    """Accuracy of always giving the most frequent answer: int64 [...] below ``classes``; 0 without any."""
    counts = answers.new_zeros(classes).scatter_add_(0, answers.flatten(), torch.ones_like(answers.flatten()))
    return counts.amax() / counts.sum().clamp(min=1)


@torch.no_grad()
def blind_answers_right(right: Tensor) -> Tensor:
    """Whether the answer that is right most often among the *other* items is right for an item, too.

    Args:
        right: bool [M, ..., N], of M items (and each question [...] about them) which of N answers are right.

    Returns:
        bool [M, ...].
    """
    counts = right.sum(dim=0) - right.to(torch.int64)  # [M, ..., N], without the item itself
    return right.gather(-1, counts.argmax(dim=-1, keepdim=True))[..., 0]

"""Clipping of gradients, each weight's on its own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def clip_each_gradient(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Scale each gradient down to norm ``max_norm`` where it is larger (``clip_gradients`` of DINO's ``utils.py``).

    Args:
        parameters: those without a gradient are passed over.
        max_norm: of each gradient.
    """
    for parameter in parameters:
        if parameter.grad is not None:
            norm = _whole(torch.linalg.vector_norm(parameter.grad))
            parameter.grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))


def _whole(norm: Tensor) -> Tensor:
    """The norm over all processes of a gradient that is sharded (a ``DTensor``); any other as it is."""
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

"""The running mean of a teacher's outputs, that DINO-like losses centre by.

Letters: K outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .gather import all_reduce_sum


class RunningCentre(nn.Module):
    """``centre <- m centre + (1 - m) mean``, the mean over all forwards and processes of an optimizer step.

    Args:
        outputs: K.
        momentum: m.
    """

    centre: Tensor  # [K]

    def __init__(self, outputs: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(outputs))
        # Of the forwards since the last step. No buffers: DDP would overwrite them by those of rank 0.
        self._sum: Tensor | None = None  # [K]
        self._count = 0

    def add(self, outputs: Tensor) -> None:
        """Take in outputs [..., K]; not in evaluation."""
        if not self.training:
            return
        rows = outputs.detach().flatten(0, -2)
        total = rows.sum(dim=0, dtype=torch.promote_types(torch.float32, rows.dtype))
        self._sum = total if self._sum is None else self._sum + total
        self._count += len(rows)

    @torch.no_grad()
    def step(self) -> None:
        """Move the centre; to be called once an optimizer step, in ``after_optimizer_step``."""
        if self._sum is None:
            return
        statistics = all_reduce_sum(torch.cat([self._sum, self._sum.new_tensor([self._count])]))  # [K + 1]
        mean = (statistics[:-1] / statistics[-1]).to(self.centre.dtype)
        self.centre.lerp_(mean, 1 - self.momentum)
        self._sum, self._count = None, 0

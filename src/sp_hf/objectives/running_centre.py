"""The running mean of a teacher's outputs, that DINO-like losses centre by.

Letters: K outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .gather import all_reduce_sum


class StepMean:
    """Mean of a teacher's outputs over all forwards and processes of an optimizer step.

    No buffers: DDP would overwrite them by those of rank 0. One tensor, so that a compiled forward is the same one
    whatever came before it.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None  # [K + 1]: of the outputs, and of ones

    def begin(self, centre: Tensor) -> None:
        """Before a step's first forward: nothing is summed yet. centre: [K], of whose device and dtype sums are."""
        self._sums = centre.new_zeros(len(centre) + 1, dtype=torch.promote_types(torch.float32, centre.dtype))

    def add(self, outputs: Tensor) -> None:
        """Take in outputs [..., K]."""
        rows = outputs.detach().flatten(0, -2)
        total = rows.sum(dim=0, dtype=torch.promote_types(torch.float32, rows.dtype))
        sums = torch.cat([total, total.new_full((1,), len(rows))])
        self._sums = sums if self._sums is None else self._sums + sums

    @torch.no_grad()
    def move(self, centre: Tensor, momentum: float) -> None:
        """``centre <- m centre + (1 - m) mean``, in place, at the end of a step; without outputs it stays."""
        if self._sums is None:
            return
        sums = all_reduce_sum(self._sums)
        mean = (sums[:-1] / sums[-1].clamp(min=1)).to(centre.dtype)
        centre.copy_(torch.where(sums[-1] > 0, centre.lerp(mean, 1 - momentum), centre))
        self._sums = None


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
        self.mean = StepMean()

    def begin(self) -> None:
        """To be called before the first forward of an optimizer step."""
        self.mean.begin(self.centre)

    def add(self, outputs: Tensor) -> None:
        """Take in outputs [..., K]; not in evaluation."""
        if self.training:
            self.mean.add(outputs)

    def step(self) -> None:
        """Move the centre; to be called once an optimizer step, in ``after_optimizer_step``."""
        self.mean.move(self.centre, self.momentum)

"""The EMA teacher: a frozen copy that follows the student.

After each optimizer step, with momentum m: teacher <- m * teacher + (1 - m) * student; buffers are copied.
m follows a cosine from its start to its end over the run (DINO, arXiv:2104.14294, section 3.1; MoCo v3 likewise).
"""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def cosine_schedule(start: float, end: float, fraction: float) -> float:
    """Value at ``fraction`` (0 to 1) of a half cosine that goes from ``start`` to ``end``."""
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * fraction))


def make_teacher(student: M) -> M:
    """A copy of ``student`` that never receives gradient."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def update_teacher(student: nn.Module, teacher: nn.Module, momentum: float) -> None:
    """Move every parameter of ``teacher`` towards ``student``; copy its buffers.

    Args:
        student, teacher: modules of the same structure.
        momentum: share of the teacher that stays, in [0, 1].
    """
    theirs: list[Tensor] = list(teacher.parameters())
    if theirs:
        torch._foreach_lerp_(theirs, [p.detach() for p in student.parameters()], 1.0 - momentum)
    for mine, other in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(other)

r"""Sinkhorn-Knopp centring: targets that use every prototype alike, made from one batch.

Letters: B items of this process, M of all processes, K prototypes.

    Q <- exp(logits / tau)                                       [M, K]
    n times:   Q <- Q with each prototype's sum over M at M / K, then Q with each item's sum over K at 1

Unlike a running mean of the outputs, it also holds in the first steps and in small batches.

Citation: Caron et al. 2020, "Unsupervised learning of visual features by contrasting cluster assignments" (SwAV),
arXiv:2006.09882, section 3.1 (n = 3); as the centring of DINO's teacher: Oquab et al. 2023, "DINOv2",
arXiv:2304.07193, section 4.

Deviation: computed with logarithms, so that no prototype underflows to a sum of zero. Constant factors, such as the
M / K above, cancel in the step after them, and are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .gather import all_reduce_max, all_reduce_sum
from .precision import in_float32


@torch.no_grad()
@in_float32
def sinkhorn(logits: Tensor, temperature: Tensor | float, iterations: int = 3) -> Tensor:
    """Assignments of items to prototypes, balanced over the items of all processes.

    Args:
        logits: [B, K] of this process; B may differ between processes, K may not.
        temperature: tau, greater than 0.
        iterations: n, at least 1.

    Returns:
        [B, K] of this process, without gradient; rows sum to 1. With n large, columns of all processes to M / K.
    """
    log_q = logits / temperature
    for _ in range(iterations):
        log_q = log_q - _log_sum_over_items(log_q)
        log_q = F.log_softmax(log_q, dim=-1)
    return log_q.exp()


def _log_sum_over_items(x: Tensor) -> Tensor:
    """Log of the sum of exp(x) over the items of all processes: [B, K] to [K]."""
    own = x.logsumexp(dim=0)
    largest = all_reduce_max(own)
    return largest + all_reduce_sum((own - largest).exp()).log()

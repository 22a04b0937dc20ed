"""Does an image's one view find its other among the batch's? The own task of whatever makes views alike, as a metric.

Letters: B images, E embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import in_float32


@torch.no_grad()
@in_float32
def retrieval_accuracy(queries: Tensor, keys: Tensor) -> Tensor:
    """Share of queries [B, E] whose nearest of the keys [B, E], by distance, is their own image's; chance is 1 / B.

    Of this process's images; embeddings that are compared by cosine are to be given at norm 1.
    """
    nearest = torch.cdist(queries.detach(), keys.detach()).argmin(dim=1)  # [B]
    return (nearest == torch.arange(len(queries), device=queries.device)).float().mean()

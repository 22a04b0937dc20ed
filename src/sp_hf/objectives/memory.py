"""Memories of embeddings: a queue of the latest ones, and a bank with one for each image.

Letters: B items of this process, M of all processes, K entries, E embedding size.

Entries are persistent buffers, alike on every process. What a forward sees is kept aside and goes in once an optimizer
step, from all processes together (:meth:`step`, to be called in ``after_optimizer_step``), so accumulation, several
processes and resuming need no more. Both start as random directions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .gather import concat_all_gather


class Queue(nn.Module):
    """The latest K embeddings (He et al. 2020, "Momentum contrast", arXiv:1911.05722, section 3.2).

    Args:
        length: K. width: E.
    """

    entries: Tensor  # [K, E]
    pointer: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("entries", F.normalize(torch.randn(length, width), dim=-1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))  # of the oldest entry
        self._pending: list[Tensor] = []

    def add(self, embeddings: Tensor) -> None:
        """Keep embeddings [B, E] aside for the next :meth:`step`; not in evaluation."""
        if self.training:
            self._pending.append(embeddings.detach())

    @torch.no_grad()
    def step(self) -> None:
        """Put in what all processes kept aside, over the oldest entries."""
        if not self._pending:
            return
        rows, _ = concat_all_gather(torch.cat(self._pending).to(self.entries.dtype))  # [M, E]
        self._pending = []
        rows = rows[-len(self.entries) :]
        index = (self.pointer + torch.arange(len(rows), device=rows.device)) % len(self.entries)
        self.entries.index_copy_(0, index, rows)
        self.pointer.add_(len(rows)).remainder_(len(self.entries))


class MemoryBank(nn.Module):
    """One embedding for each image of the dataset, at norm 1 (Wu et al. 2018, arXiv:1805.01978, section 3.1).

    Args:
        images: K. width: E.
        momentum: share of an entry that stays when its image is seen.
    """

    entries: Tensor  # [K, E]

    def __init__(self, images: int, width: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("entries", F.normalize(torch.randn(images, width), dim=-1))
        self._pending: list[tuple[Tensor, Tensor]] = []

    def add(self, ids: Tensor, embeddings: Tensor) -> None:
        """Keep embeddings [B, E] of images ``ids`` int64 [B] aside for the next :meth:`step`; not in evaluation."""
        if self.training:
            self._pending.append((ids, embeddings.detach()))

    @torch.no_grad()
    def step(self) -> None:
        """Move the entries of the images that any process saw; of one seen twice, by the mean."""
        if not self._pending:
            return
        ids, _ = concat_all_gather(torch.cat([ids for ids, _ in self._pending]))  # [M]
        rows, _ = concat_all_gather(torch.cat([rows for _, rows in self._pending]).to(self.entries.dtype))  # [M, E]
        self._pending = []
        images, place, count = ids.unique(return_inverse=True, return_counts=True)
        mean = rows.new_zeros(len(images), rows.shape[1]).index_add_(0, place, rows) / count[:, None]
        moved = self.momentum * self.entries[images] + (1 - self.momentum) * mean
        self.entries[images] = F.normalize(moved, dim=-1)

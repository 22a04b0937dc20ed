"""Weighted k-nearest-neighbour classification of frozen features, as in DINO (Caron et al. 2021, arXiv:2104.14294).

Each query's k most similar training images (cosine) vote for their class with weight exp(similarity / T); k = 20 and
T = 0.07 as in the paper (after Wu et al. 2018, arXiv:1805.01978). No weights are trained, nothing is tuned.

Letters: n training images, m queries, B queries of a batch, D feature size, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..accuracy import check_labels

NEIGHBOURS = 20
TEMPERATURE = 0.07
_BATCH = 1024
_CHUNK = 65_536  # training images at a time


def knn_votes(
    train: Tensor,
    labels: Tensor,
    queries: Tensor,
    *,
    classes: int,
    neighbours: int,
    temperature: float,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Sum of the neighbours' weights for each class.

    Args:
        train: [n, D] features; their lengths do not matter.
        labels: int64 [n] in 0 .. C-1.
        queries: [m, D].
        classes: C.
        neighbours: k, at most n.
        temperature: T.
        device: where similarities are computed, some training images at a time.

    Returns:
        float32 [m, C].
    """
    votes = []
    for batch in queries.split(_BATCH):
        similarity, nearest = _nearest(train, batch, neighbours, device)  # [B, k]
        weights = ((similarity - 1) / temperature).exp().cpu()  # exp(s / T) but for a constant factor: no overflow
        votes.append(weights.new_zeros(len(batch), classes).scatter_add_(1, labels[nearest.cpu()], weights))
    return torch.cat(votes)


def _nearest(train: Tensor, queries: Tensor, k: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Cosine similarities and rows of the k nearest of [n, D] for [B, D]: [B, k] each; n may be read from disk."""
    queries = F.normalize(queries.float().to(device), dim=-1)
    similarity, nearest = torch.empty(len(queries), 0, device=device), torch.empty(len(queries), 0, dtype=torch.int64)
    nearest = nearest.to(device)
    for start in range(0, len(train), _CHUNK):
        chunk = F.normalize(train[start : start + _CHUNK].float().to(device), dim=-1)
        closest = (queries @ chunk.T).topk(min(k, len(chunk)), dim=-1)
        similarity, order = torch.cat([similarity, closest.values], dim=1).sort(stable=True, dim=1, descending=True)
        nearest = torch.cat([nearest, closest.indices + start], dim=1).gather(1, order)
        similarity, nearest = similarity[:, :k], nearest[:, :k]
    return similarity, nearest


def evaluate_knn(
    train: Tensor,
    train_labels: Tensor,
    validation: Tensor,
    validation_labels: Tensor,
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """The vote on the validation images.

    Args:
        train, validation: [n, D] and [m, D] features.
        train_labels, validation_labels: int64 [n] and [m]; images without a label (-1) are left out.
        neighbours: k; all of the training images where there are fewer.
        temperature: T.
        device: as for :func:`knn_votes`.

    Returns:
        Predicted and true classes of the labelled validation images, int64.

    Raises:
        LabelError: see :func:`check_labels`.
    """
    check_labels(train_labels, validation_labels)
    train, train_labels = train[train_labels >= 0], train_labels[train_labels >= 0]
    validation, validation_labels = validation[validation_labels >= 0], validation_labels[validation_labels >= 0]
    known, train_labels = torch.unique(train_labels, return_inverse=True)
    votes = knn_votes(
        train,
        train_labels,
        validation,
        classes=len(known),
        neighbours=min(neighbours, len(train)),
        temperature=temperature,
        device=device,
    )
    return known[votes.argmax(-1)], validation_labels

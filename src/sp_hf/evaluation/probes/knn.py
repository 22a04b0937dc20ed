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


def knn_votes(
    train: Tensor, labels: Tensor, queries: Tensor, *, classes: int, neighbours: int, temperature: float
) -> Tensor:
    """Sum of the neighbours' weights for each class.

    Args:
        train: [n, D] features; their lengths do not matter.
        labels: int64 [n] in 0 .. C-1.
        queries: [m, D].
        classes: C.
        neighbours: k, at most n.
        temperature: T.

    Returns:
        float32 [m, C].
    """
    train = F.normalize(train.float(), dim=-1)
    votes = []
    for batch in F.normalize(queries.float(), dim=-1).split(_BATCH):
        similarity, nearest = (batch @ train.T).topk(neighbours, dim=-1)  # [B, k]
        weights = ((similarity - 1) / temperature).exp()  # exp(s / T) but for a constant factor: no overflow
        votes.append(weights.new_zeros(len(batch), classes).scatter_add_(1, labels[nearest], weights))
    return torch.cat(votes)


def evaluate_knn(
    train: Tensor,
    train_labels: Tensor,
    validation: Tensor,
    validation_labels: Tensor,
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> tuple[Tensor, Tensor]:
    """The vote on the validation images.

    Args:
        train, validation: [n, D] and [m, D] features.
        train_labels, validation_labels: int64 [n] and [m]; images without a label (-1) are left out.
        neighbours: k; all of the training images where there are fewer.
        temperature: T.

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
    )
    return known[votes.argmax(-1)], validation_labels

"""Weighted k-nearest-neighbour classification of frozen features, as in DINO (Caron et al. 2021, arXiv:2104.14294).

Each query's k most similar training images (cosine) vote for their class with weight exp(similarity / T); k = 20 and
T = 0.07 as in the paper (after Wu et al. 2018, arXiv:1805.01978). No weights are trained, nothing is tuned.

Letters: n training images, m queries, B queries of a batch, D feature size, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bootstrap import Estimate, ratio_of_sums

NEIGHBOURS = 20
TEMPERATURE = 0.07
_SHOWN = 5
_BATCH = 1024


class LabelError(ValueError):
    """Labels with which recognition cannot be measured."""


@dataclasses.dataclass(frozen=True)
class KNNResult:
    """Top-1 accuracy on the validation images.

    Args:
        accuracy: fraction of the labelled images that are recognised.
        neighbours, temperature: k and T that were used.
        classes: how many there are in the training sample.
        train_images, images: labelled images compared with, and asked about.
    """

    accuracy: Estimate
    neighbours: int
    temperature: float
    classes: int
    train_images: int
    images: int


def check_labels(train: Tensor | None, validation: Tensor | None, names: Sequence[str] | None = None) -> None:
    """Whether recognition can be measured with these labels (int64, -1 for none).

    Raises:
        LabelError: a split without labels, a single class, or classes that the training images lack.
    """
    for split, labels in (("training", train), ("validation", validation)):
        if labels is None or not (labels >= 0).any():
            raise LabelError(
                f"kNN needs labels, but the {split} images have none: name their column with label_column,"
                " or leave kNN out"
            )
    known = torch.unique(train[train >= 0])
    if len(known) < 2:
        raise LabelError(f"kNN needs two classes or more; all training images are of class {_name(known[0], names)}")
    asked = torch.unique(validation[validation >= 0])
    missing = asked[~torch.isin(asked, known)]
    if len(missing):
        shown = ", ".join(_name(label, names) for label in missing[:_SHOWN]) + (" ..." if len(missing) > _SHOWN else "")
        raise LabelError(
            f"{len(missing)} of the {len(asked)} classes of the validation images have no training image ({shown}):"
            " use splits with the same classes, or a larger max_images"
        )


def _name(label: Tensor, names: Sequence[str] | None) -> str:
    index = int(label)
    return f"{index} ({names[index]})" if names is not None and index < len(names) else str(index)


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
    seed: int = 0,
) -> KNNResult:
    """Accuracy of the vote on the validation images, with its interval.

    Args:
        train, validation: [n, D] and [m, D] features.
        train_labels, validation_labels: int64 [n] and [m]; images without a label (-1) are left out.
        neighbours: k; all of the training images where there are fewer.
        temperature: T.
        seed: of the bootstrap.

    Raises:
        LabelError: see :func:`check_labels`.
    """
    check_labels(train_labels, validation_labels)
    train, train_labels = train[train_labels >= 0], train_labels[train_labels >= 0]
    validation, validation_labels = validation[validation_labels >= 0], validation_labels[validation_labels >= 0]
    neighbours = min(neighbours, len(train))
    known, train_labels = torch.unique(train_labels, return_inverse=True)
    votes = knn_votes(
        train, train_labels, validation, classes=len(known), neighbours=neighbours, temperature=temperature
    )
    correct = (known[votes.argmax(-1)] == validation_labels)[:, None]  # [m, 1]
    (accuracy,) = ratio_of_sums(correct, torch.ones_like(correct), seed=seed)
    return KNNResult(accuracy, neighbours, temperature, len(known), len(train), len(validation))

"""The validation side of a dataset: a split of its own, or a seeded hold-out of its only one.

Letters: n images.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import torch

from ..data.columns import ColumnError
from ..data.datasets import LoadedImages, is_embedded, load_images
from ..data.given_images import GivenImages
from ..data.sources import DatasetLoadError, NoSuchSplit
from .features import labels_of
from .probes.hold_out import first_share, hold_out_of_each_class

VALIDATION_SPLITS = ("validation", "val", "test")


def validation_split(dataset: str | GivenImages, **options: Any) -> str | None:
    """The first split there is of validation, val and test; ``None`` where there is none.

    Args:
        dataset, options: as for :func:`~sp_hf.data.datasets.load_images`.
    """
    if is_embedded(dataset):
        return VALIDATION_SPLITS[0]
    return next((name for name in VALIDATION_SPLITS if has_split(dataset, name, **options)), None)


def has_split(dataset: str | GivenImages, name: str, **options: Any) -> bool:
    """Whether a dataset has a split of this name; arguments as for :func:`validation_split`.

    Raises:
        DatasetLoadError: the dataset itself cannot be loaded.
    """
    try:
        load_images(dataset, split=name, **options)
    except ColumnError:  # it is there; which column holds its images is another question
        return True
    except NoSuchSplit:
        return False
    return True


def divide(images: LoadedImages, side: str, seed: int) -> LoadedImages:
    """One side of a dataset that has no validation split: a fifth of its images, of each class where it has labels, is
    held out for validation, the others are for training.

    Args:
        images: all of them.
        side: ``"train"`` or ``"validation"``.
        seed: of the draw; the global generator is left alone.

    Raises:
        DatasetLoadError: a stream, whose images cannot be drawn from, or a single image.
    """
    advice = "name images to measure on with --validation_dataset, or a split with --validation_dataset_split"
    if images.streaming:
        raise DatasetLoadError(f"{images.description} is a stream without a validation split: {advice}")
    n = len(images.dataset)
    if n < 2:
        raise DatasetLoadError(f"{images.description} holds {n} image and has no validation split: {advice}")
    held_out = held_out_rows(labels_of(images), n, seed)
    chosen = np.flatnonzero(held_out if side == "validation" else ~held_out)
    part = "held-out fifth" if side == "validation" else "all but a held-out fifth"
    identity = f"{images.fingerprint} {side} {seed} {len(chosen)}"
    return dataclasses.replace(
        images,
        dataset=images.dataset.select(chosen),
        description=f"{images.description} ({part})",
        fingerprint=hashlib.sha1(identity.encode(), usedforsecurity=False).hexdigest()[:16],
        num_images=len(chosen),
    )


def held_out_rows(labels: torch.Tensor | None, n: int, seed: int) -> np.ndarray:
    """bool [n]: a fifth of each class and of the images without a label, but never a class's only image.

    Args:
        labels: int64 [n], -1 for none; ``None`` where the dataset has none.
        n: how many images there are.
        seed: of the draw.
    """
    if labels is None:
        return first_share(torch.randperm(n, generator=torch.Generator().manual_seed(seed))).numpy()
    return hold_out_of_each_class(torch.unique(labels, return_inverse=True)[1], seed).numpy()

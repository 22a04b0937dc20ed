"""The validation side of a dataset."""

from __future__ import annotations

from typing import Any

from ..data.datasets import LoadedImages, load_images
from ..data.given_images import GivenImages
from ..data.sources import DatasetLoadError

VALIDATION_SPLITS = ("validation", "val", "test")


def open_validation(
    dataset: str | GivenImages, split: str | None = None, *, of_its_own: bool = False, **options: Any
) -> LoadedImages:
    """The named split, or the first there is of validation, val and test.

    Args:
        dataset, split: as for :func:`~sp_hf.data.datasets.load_images`.
        of_its_own: the dataset was named for validation alone, so that without such a split its default one is meant.
        options: other arguments of ``load_images``.

    Raises:
        DatasetLoadError: there is none; says which splits there are.
    """
    if split is not None:
        return load_images(dataset, split=split, **options)
    reason: DatasetLoadError | None = None
    for name in VALIDATION_SPLITS:
        try:
            return load_images(dataset, split=name, **options)
        except DatasetLoadError as error:
            reason = error
    if of_its_own:
        return load_images(dataset, **options)
    raise DatasetLoadError(
        f"{dataset} has no split named {', '.join(VALIDATION_SPLITS)}; name one with --validation_dataset_split, or"
        f" another dataset with --validation_dataset. ({reason})"
    )

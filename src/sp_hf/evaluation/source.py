"""Where the images of an evaluation come from: one dataset, or two, for training and validation side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..data.datasets import EMBEDDED, LoadedImages, is_embedded, load_images
from ..data.given_images import GivenImages
from .splits import open_validation


@dataclasses.dataclass(frozen=True)
class DataSource:
    """Where images come from: the arguments of :func:`~sp_hf.data.datasets.load_images` for both sides.

    Args:
        dataset, dataset_config, dataset_split, dataset_revision: training side.
        validation_dataset, validation_dataset_config, validation_dataset_split, validation_dataset_revision: validation
            side; ``None``: the same dataset, and the first split there is of validation, val and test.
        image_column, label_column: of both; ``None``: found by type.
        max_images: of each side, chosen at random; ``None`` for all.
    """

    dataset: str | GivenImages = EMBEDDED
    dataset_config: str | None = None
    dataset_split: str | None = None
    dataset_revision: str | None = None
    validation_dataset: str | GivenImages | None = None
    validation_dataset_config: str | None = None
    validation_dataset_split: str | None = None
    validation_dataset_revision: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    max_images: int | None = None

    @property
    def embedded(self) -> bool:
        """Whether it is PartScenes."""
        return is_embedded(self.dataset)

    def open(self, side: str, extra_columns: Sequence[str] = ()) -> LoadedImages:
        """The ``"train"`` or the ``"validation"`` side.

        Raises:
            DatasetLoadError, ColumnError: see :func:`~sp_hf.data.datasets.load_images`.
        """
        columns: dict[str, Any] = {
            "image_column": self.image_column,
            "label_column": self.label_column,
            "extra_columns": tuple(extra_columns),
        }
        if side == "train":
            hub = {"config": self.dataset_config, "revision": self.dataset_revision}
            return load_images(self.dataset, split=self.dataset_split, **hub, **columns)
        own = self.validation_dataset
        hub = {"config": self.validation_dataset_config, "revision": self.validation_dataset_revision}
        if own is None:
            hub = {name: value or getattr(self, f"dataset_{name}") for name, value in hub.items()}
        return open_validation(
            self.dataset if own is None else own,
            self.validation_dataset_split,
            of_its_own=own is not None,
            **hub,
            **columns,
        )

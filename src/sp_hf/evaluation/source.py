"""Where the images of an evaluation come from: one dataset, or two, for training and validation side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..data.datasets import EMBEDDED, LoadedImages, load_images
from .splits import open_validation


@dataclasses.dataclass(frozen=True)
class DataSource:
    """Where images come from: the arguments of :func:`~sp_hf.data.datasets.load_images` for both sides.

    Args:
        dataset, split, config, revision: training side.
        validation_dataset, validation_split: validation side; ``None``: the same dataset, and the first split there is
            of validation, val and test.
        image_column, label_column: of both; ``None``: found by type.
        max_images: of each side, chosen at random; ``None`` for all.
    """

    dataset: str = EMBEDDED
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    validation_dataset: str | None = None
    validation_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    max_images: int | None = None

    @property
    def embedded(self) -> bool:
        """Whether it is PartScenes."""
        return self.dataset.partition("?")[0] == EMBEDDED

    def open(self, side: str, extra_columns: Sequence[str] = ()) -> LoadedImages:
        """The ``"train"`` or the ``"validation"`` side.

        Raises:
            DatasetLoadError, ColumnError: see :func:`~sp_hf.data.datasets.load_images`.
        """
        columns = {
            "image_column": self.image_column,
            "label_column": self.label_column,
            "extra_columns": tuple(extra_columns),
        }
        if side == "train":
            return load_images(self.dataset, split=self.split, config=self.config, revision=self.revision, **columns)
        if self.validation_dataset:
            return open_validation(self.validation_dataset, self.validation_split, of_its_own=True, **columns)
        return open_validation(
            self.dataset, self.validation_split, config=self.config, revision=self.revision, **columns
        )

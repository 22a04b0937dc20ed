"""The training and validation images of datasets, opened once a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from .accuracy import LabelError, check_labels
from .features import ImageSample, choose_images
from .label_names import numbered_as
from .once import Once
from .source import DataSource


class SideKey(NamedTuple):
    """A side of a source, and the columns that are read beside images and labels."""

    source: DataSource
    side: str
    extra_columns: tuple[str, ...]


class PartKey(NamedTuple):
    """Some rows of a sample."""

    sample: Hashable
    rows: tuple[int, ...]


class Samples:
    """Sides by source, each opened once.

    Args:
        source: the datasets of the run.
        seed: of every random choice.
    """

    def __init__(self, source: DataSource, seed: int = 0) -> None:
        self.source, self.seed = source, seed
        self._sides: Once[DataSource, tuple[ImageSample, ImageSample]] = Once()
        self._samples: Once[SideKey, ImageSample] = Once()
        self._parts: Once[PartKey, ImageSample] = Once()
        self._validation_splits: Once[DataSource, tuple[str | None, bool]] = Once()

    @property
    def train(self) -> ImageSample:
        """The training side, chosen and not decoded."""
        return self.sample(self.source, "train")

    @property
    def validation(self) -> ImageSample:
        """The validation side, chosen and not decoded; its labels are the training side's of the same names."""
        return self.sides(self.source)[1]

    def sides(self, source: DataSource) -> tuple[ImageSample, ImageSample]:
        """Both sides of any source, the classes of the second numbered as those of the first."""

        def open_both() -> tuple[ImageSample, ImageSample]:
            train, validation = self.sample(source, "train"), self.sample(source, "validation")
            return train, numbered_as(train, validation)

        return self._sides.get(source, open_both)

    def limited(self, images: int | None) -> tuple[ImageSample, ImageSample]:
        """Both sides of the run's source with at most so many images each; 0 or ``None`` for all."""
        limits = [limit for limit in (images, self.source.max_images) if limit]
        return self.sides(dataclasses.replace(self.source, max_images=min(limits, default=None)))

    def at_most(self, images: int) -> int:
        """So many images, or as many as the run takes of each side if that is less."""
        return min(images, self.source.max_images or images)

    def check_labels(self, source: DataSource | None = None) -> None:
        """Whether recognition can be measured on a source, the run's own by default.

        Raises:
            LabelError: see :func:`~sp_hf.evaluation.accuracy.check_labels`; names both sides.
        """
        train, validation = self.sides(source or self.source)
        names = validation.images.label_names or train.images.label_names
        try:
            check_labels(train.labels, validation.labels, names)
        except LabelError as error:
            ours, theirs = train.images.description, validation.images.description
            raise LabelError(f"{error} (training side: {ours}; validation side: {theirs})") from error

    def sample(self, source: DataSource, side: str, extra_columns: Sequence[str] = ()) -> ImageSample:
        """A side of any source as it is, opened once a run."""

        def open_side() -> ImageSample:
            split, divided = self.validation_of(source)
            named = dataclasses.replace(source, validation_dataset_split=split)
            opened = named.open(side, extra_columns, divide_by=self.seed if divided else None)
            return choose_images(opened, source.max_images, self.seed)

        return self._samples.get(SideKey(source, side, tuple(extra_columns)), open_side)

    def validation_of(self, source: DataSource) -> tuple[str | None, bool]:
        """:meth:`~sp_hf.evaluation.source.DataSource.find_validation`, asked once a run and dataset."""
        dataset = dataclasses.replace(source, image_column=None, label_column=None, max_images=None)
        return self._validation_splits.get(dataset, dataset.find_validation)

    def part(self, sample: ImageSample, rows: Sequence[int] | np.ndarray) -> ImageSample:
        """Some rows of a sample, by index; the sample itself where they are all of them."""
        if len(rows) == len(sample.rows):
            return sample
        key = PartKey(sample.key, tuple(map(int, rows)))
        return self._parts.get(key, lambda: sample.select(np.asarray(rows)))

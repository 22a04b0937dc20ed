"""Where the images of an evaluation come from: one dataset, or two, for training and validation side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from ..data.datasets import EMBEDDED, LoadedImages, is_embedded, load_images
from ..data.given_images import GivenImages
from ..data.part_scenes.dataset import SPLITS
from ..data.sources import DatasetLoadError
from .splits import VALIDATION_SPLITS, divide, has_split, validation_split


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

    def find_validation(self) -> tuple[str | None, bool]:
        """Which split the validation side is (``None``: its dataset's default one), and whether both sides are parts of
        one split instead, as no other was named and there is none."""
        if self.validation_dataset_split is not None:
            return self.validation_dataset_split, False
        own, hub = self.validation_dataset, self._hub("validation")
        split = validation_split(self.dataset if own is None else own, **hub)
        if self.embedded or own is not None:
            return split, False
        if split is None or self.dataset_split is not None:
            return split, split in (None, self.dataset_split)
        return split, not has_split(self.dataset, "train", **hub)  # it is the only one there is

    def open(self, side: str, extra_columns: Sequence[str] = (), *, divide_by: int | None = None) -> LoadedImages:
        """The ``"train"`` or the ``"validation"`` side. Of PartScenes no more are drawn than ``max_images``.

        Args:
            side: which.
            extra_columns: as for :func:`~sp_hf.data.datasets.load_images`.
            divide_by: seed by which the training split is divided into both sides (see :meth:`find_validation`);
                ``None``: it is not.

        Raises:
            DatasetLoadError, ColumnError: see :func:`~sp_hf.data.datasets.load_images`; there is no validation split.
        """
        columns: dict[str, Any] = {
            "image_column": self.image_column,
            "label_column": self.label_column,
            "extra_columns": tuple(extra_columns),
        }
        if divide_by is not None:
            whole = load_images(self.dataset, split=self.dataset_split, **self._hub("train"), **columns)
            return divide(whole, side, divide_by)
        if side == "train":
            dataset, split = self.dataset, self.dataset_split
        else:
            own, split = self.validation_dataset, self.validation_dataset_split
            dataset = self.dataset if own is None else own
            split = split or validation_split(dataset, **self._hub(side))
            if split is None and own is None:
                raise DatasetLoadError(
                    f"{dataset} has no split named {', '.join(VALIDATION_SPLITS)}; name one with"
                    " --validation_dataset_split, or another dataset with --validation_dataset"
                )
        drawn = _no_more_than(self.max_images, dataset, split or "train") if is_embedded(dataset) else dataset
        opened = load_images(drawn, split=split, **self._hub(side), **columns)
        description = opened.description.replace(str(drawn), str(dataset), 1)
        return dataclasses.replace(opened, description=description)

    def _hub(self, side: str) -> dict[str, Any]:
        train = {"config": self.dataset_config, "revision": self.dataset_revision}
        if side == "train":
            return train
        own = {"config": self.validation_dataset_config, "revision": self.validation_dataset_revision}
        return own if self.validation_dataset is not None else {name: own[name] or train[name] for name in own}


def _no_more_than(most: int | None, dataset: Any, split: str) -> Any:
    """PartScenes with as many scenes as are asked for, where it would draw more."""
    name, _, query = str(dataset).partition("?")
    options = dict(parse_qsl(query))
    available = int(options.get("num_images", SPLITS.get(split, 0)))
    if most is None or most < 1 or most >= available:
        return dataset
    return f"{name}?{urlencode(options | {'num_images': str(most)})}"

"""Datasets that Python code hands over as objects, in place of the string that names one."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, TypeAlias

import datasets
import torch.utils.data

from ..errors import InputTypeError
from ..given import GIVEN
from .image_rows import ImageRows
from .sources import DatasetLoadError, NoSuchSplit

logger = logging.getLogger(__name__)

Rows: TypeAlias = datasets.Dataset | datasets.IterableDataset | ImageRows
_STREAM_SHARDS = 64  # of a dataset that is read as a stream


@dataclasses.dataclass(frozen=True, eq=False)
class GivenImages:
    """A dataset as an object; ``str()`` is what a run's recipe says of it.

    Args:
        splits: rows by split; what is given whole has the name "".
        description: in words.
    """

    splits: Mapping[str, Rows]
    description: str

    def __str__(self) -> str:
        return f"{GIVEN}{self.description}"

    @classmethod
    def of(cls, dataset: Any) -> GivenImages:
        """Of any kind of dataset object.

        Args:
            dataset: ``datasets.Dataset``, ``IterableDataset`` or a dict of them by split; or a map-style torch dataset
                or a list of images, see :mod:`sp_hf.data.image_rows`.

        Raises:
            TypeError: anything else.
            DatasetLoadError: it is empty.
        """
        if isinstance(dataset, GivenImages):
            return dataset
        if isinstance(dataset, (datasets.DatasetDict, datasets.IterableDatasetDict)):
            splits = {str(name): _plain(rows) for name, rows in dataset.items()}
            return cls(splits, f"{type(dataset).__name__} of {', '.join(splits)}")
        kind = type(dataset).__name__
        if isinstance(dataset, (datasets.Dataset, datasets.IterableDataset)):
            named = dataset.info.dataset_name if dataset.info is not None else None
            size = "" if isinstance(dataset, datasets.IterableDataset) else f" of {len(dataset)} rows"
            words = f"{kind} {named}{size}" if named else f"{kind}{size}"
            return cls({"": _plain(dataset)}, words)
        if isinstance(dataset, torch.utils.data.IterableDataset):
            raise InputTypeError(
                f"{kind} is a torch IterableDataset, whose rows cannot be resumed; wrap its generator in"
                " datasets.IterableDataset.from_generator"
            )
        if isinstance(dataset, (str, bytes, Mapping)) or not all(
            hasattr(dataset, name) for name in ("__len__", "__getitem__")
        ):
            raise InputTypeError(
                f"a dataset is a string, a datasets.Dataset or IterableDataset, a map-style torch dataset or a list of"
                f" images, not {kind}"
            )
        if not len(dataset):
            raise DatasetLoadError(f"the {kind} holds no images")
        return cls({"": ImageRows(dataset)}, f"{kind} of {len(dataset)} images")

    def open(self, split: str | None, streaming: bool) -> tuple[Rows, str]:
        """The rows of a split, and its name ("" where it has none).

        Raises:
            DatasetLoadError: no such split; or ``streaming`` of what cannot be read as a stream.
        """
        chosen = split or (next(iter(self.splits)) if len(self.splits) == 1 else "train")
        if chosen not in self.splits:
            names = ", ".join(name for name in self.splits if name) or "none: it is given whole"
            raise NoSuchSplit(f"the {self.description} has no split {chosen!r}; its splits: {names}")
        rows = self.splits[chosen]
        if not streaming or isinstance(rows, datasets.IterableDataset):
            return rows, chosen
        if isinstance(rows, ImageRows):
            raise DatasetLoadError(f"the {self.description} cannot be read as a stream; leave out streaming")
        return rows.to_iterable_dataset(min(len(rows), _STREAM_SHARDS) or 1), chosen


def _plain(rows: Any) -> Any:
    """Rows as they are stored: images are decoded here, and cut into views later."""
    kind = getattr(rows, "_formatting", None)
    kind = kind.format_type if kind is not None else getattr(rows, "_format_type", None)
    if kind is None:
        return rows
    if kind == "custom":
        logger.warning("the transform that was set on the dataset is not applied: views are cut from whole images")
    return rows.with_format(None)

"""Images that Python code holds, as rows with named columns: a torch dataset, or a list.

Items may be images (PIL, uint8 arrays, encoded bytes, paths), pairs ``(image, label)`` as torchvision's datasets yield
them, or mappings such as ``{"image": ..., "label": ...}``. Nothing is copied: an item is read when it is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from ..errors import InputTypeError

_IMAGE, _LABEL = "image", "label"


class ImageRows:
    """Rows of an indexable source, with as much of ``datasets.Dataset``'s face as this package looks at.

    Args:
        items: has ``len()`` and items by index; at least one.

    Attributes:
        features: the columns' types, judged by the first item; ``items.classes`` names the classes where it is there.

    Raises:
        TypeError: the first item is no image, nor a pair or mapping of one.
    """

    _fingerprint = None  # what it holds may change, so nothing that is computed of it is kept on disk

    def __init__(self, items: Any) -> None:
        self._items = items
        self._indices: Sequence[int] = range(len(items))
        first, targets = items[0], getattr(items, "targets", None)
        self.features = datasets.Features({name: _type_of(v, name, items) for name, v in _as_row(first).items()})
        is_whole = isinstance(first, tuple) and targets is not None and len(targets) == len(items)
        self._targets = targets if is_whole else None

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, key: Any) -> Any:
        """A row by its number, or a column by its name."""
        if isinstance(key, str):
            if self._targets is not None and self.knows(key):
                return [int(self._targets[i]) for i in self._indices]
            return [row[key] for row in self]
        row = _as_row(self._items[self._indices[int(key)]])
        return {name: row[name] for name in self.features}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def select(self, indices: Iterable[int]) -> ImageRows:
        """Some of the rows."""
        rows = copy.copy(self)
        rows._indices = [self._indices[int(i)] for i in indices]
        return rows

    def select_columns(self, columns: Sequence[str]) -> ImageRows:
        """Some of the columns."""
        rows = copy.copy(self)
        rows.features = datasets.Features({name: self.features[name] for name in columns})
        return rows

    def cast_column(self, name: str, feature: datasets.Image) -> ImageRows:
        """Itself: images are as they come, never decoded here."""
        return self

    def knows(self, column: str) -> bool:
        """Whether a column can be read without reading an image: torchvision's ``targets`` hold all labels."""
        return column == _LABEL and self._targets is not None


def _as_row(item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping) and not {"bytes", "path"} >= set(item):
        return dict(item)
    if isinstance(item, tuple) and len(item) == 2:
        return {_IMAGE: item[0], _LABEL: item[1]}
    return {_IMAGE: item}


def _type_of(value: Any, name: str, items: Any) -> Any:
    """The feature of a column, by its first value."""
    if isinstance(value, (Image.Image, bytes, Mapping, Path)) or _is_pixels(value):
        return datasets.Image(decode=False)
    if isinstance(value, str):
        return datasets.Image(decode=False) if name == _IMAGE else datasets.Value("string")
    if isinstance(value, Integral) or (hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0):
        classes = getattr(items, "classes", None)
        return datasets.ClassLabel(names=list(classes)) if name == _LABEL and classes else datasets.Value("int64")
    if name == _IMAGE:
        raise InputTypeError(
            f"a dataset's images must be PIL images, uint8 arrays [height, width, 3], encoded bytes or paths, not"
            f" {type(value).__name__}: leave out transforms such as ToTensor, the views are cut here"
        )
    return datasets.Value("string")  # of no use here, and kept out of the way


def _is_pixels(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3)

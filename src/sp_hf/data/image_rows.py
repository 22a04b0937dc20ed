"""Images that Python code holds, as rows with named columns: a torch dataset, or a list.

Items may be images (PIL, uint8 arrays, encoded bytes, paths), pairs ``(image, label)`` as torchvision's datasets yield
them, or mappings such as ``{"image": ..., "label": ...}``. Nothing is copied: an item is read when it is asked for.
"""

from __future__ import annotations

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
        indices: which of them are the rows; ``None``: all.
        columns: which columns are kept; ``None``: all.

    Attributes:
        features: the columns' types, judged by the first item; ``items.classes`` names the classes where it is there.

    Raises:
        TypeError: the first item is no image, nor a pair or mapping of one.
    """

    _fingerprint = None  # what it holds may change, so nothing that is computed of it is kept on disk

    def __init__(self, items: Any, indices: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> None:
        self._items, self._indices = items, indices
        first = _as_row(items[0])
        types = {name: _type_of(value, name, items) for name, value in first.items()}
        self.features = datasets.Features({name: types[name] for name in columns or types})

    def __len__(self) -> int:
        return len(self._items) if self._indices is None else len(self._indices)

    def __getitem__(self, key: Any) -> Any:
        """A row by its number, or a column by its name."""
        if isinstance(key, str):
            return self._labels() if self.knows(key) else [row[key] for row in self]
        row = _as_row(self._items[self._place(int(key))])
        return {name: row[name] for name in self.features}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def select(self, indices: Iterable[int]) -> ImageRows:
        """Some of the rows."""
        return ImageRows(self._items, [self._place(int(i)) for i in indices], list(self.features))

    def select_columns(self, columns: Sequence[str]) -> ImageRows:
        """Some of the columns."""
        return ImageRows(self._items, self._indices, list(columns))

    def cast_column(self, name: str, feature: datasets.Image) -> ImageRows:
        """Itself: images are as they come, never decoded here."""
        return self

    def _place(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        index %= len(self)
        return index if self._indices is None else self._indices[index]

    def knows(self, column: str) -> bool:
        """Whether a column can be read without reading an image: torchvision's ``targets`` hold all labels."""
        targets = getattr(self._items, "targets", None) if column == _LABEL else None
        return targets is not None and len(targets) == len(self._items) and not isinstance(self._items[0], Mapping)

    def _labels(self) -> list[int]:
        targets = self._items.targets
        return [int(targets[self._place(i)]) for i in range(len(self))]


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

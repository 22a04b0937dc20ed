"""Finding the image column and the label column of a dataset by the types of its features."""

from __future__ import annotations

import datasets

from ..errors import DataError

_LABEL_NAMES = ("label", "labels", "cls")  # "cls" is WebDataset's


class ColumnError(DataError):
    """A column that is not there, is not usable, or cannot be chosen; lists the columns there are."""


def describe_columns(features: datasets.Features) -> str:
    """``"image: Image, label: ClassLabel of 10, caption: string"``."""
    return ", ".join(f"{name}: {_type_name(feature)}" for name, feature in features.items()) or "none"


def find_image_column(features: datasets.Features, wanted: str | None = None) -> str:
    """The column of images: the one asked for, else the only one of type ``Image``.

    Without an ``Image`` column, the only struct of ``bytes`` and ``path`` is taken: that is how images look in
    parquet files that were written without ``datasets``. Asked for by name, plain binary (encoded images) and
    string columns (paths) are taken too.

    Raises:
        ColumnError: no such column, not a column of images, or several to choose from.
    """
    if wanted is not None:
        require_column(wanted, features, "image_column")
        if not _may_hold_images(features[wanted]):
            raise ColumnError(
                f"image_column={wanted!r} is of type {_type_name(features[wanted])}, which holds no images; "
                f"the columns are: {describe_columns(features)}"
            )
        return wanted
    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    candidates = candidates or [name for name, feature in features.items() if _is_image_struct(feature)]
    if len(candidates) == 1:
        return candidates[0]
    problem = f"several image columns ({', '.join(candidates)})" if candidates else "no column of type Image"
    raise ColumnError(f"{problem}; choose one with image_column; the columns are: {describe_columns(features)}")


def find_label_column(features: datasets.Features, wanted: str | None = None) -> str | None:
    """The column of class labels: the one asked for, else the only ``ClassLabel``, else whole numbers in "label".

    Several ``ClassLabel`` columns: the one called "label", else none.

    Raises:
        ColumnError: the column asked for is not there, or holds neither ``ClassLabel`` nor whole numbers.
    """
    if wanted is not None:
        require_column(wanted, features, "label_column")
        if not _is_label(features[wanted]):
            raise ColumnError(
                f"label_column={wanted!r} is of type {_type_name(features[wanted])}; labels are ClassLabel or whole "
                f"numbers (see datasets' class_encode_column); the columns are: {describe_columns(features)}"
            )
        return wanted
    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(candidates) == 1:
        return candidates[0]
    return next((name for name in _LABEL_NAMES if name in features and _is_label(features[name])), None)


def require_column(name: str, features: datasets.Features, flag: str) -> None:
    """Raise ColumnError where there is no such column; ``flag`` is what asked for it."""
    if name not in features:
        raise ColumnError(f"{flag}={name!r} is not a column; the columns are: {describe_columns(features)}")


def _is_image_struct(feature: object) -> bool:
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"} and _dtype(feature["bytes"]) == "binary"


def _may_hold_images(feature: object) -> bool:
    simple = ("binary", "large_binary", "string", "large_string")
    return isinstance(feature, datasets.Image) or _is_image_struct(feature) or _dtype(feature) in simple


def _is_label(feature: object) -> bool:
    return isinstance(feature, datasets.ClassLabel) or "int" in _dtype(feature)


def _dtype(feature: object) -> str:
    return feature.dtype if isinstance(feature, datasets.Value) else ""


def _type_name(feature: object) -> str:
    if isinstance(feature, datasets.ClassLabel):
        return f"ClassLabel of {feature.num_classes}"
    if isinstance(feature, dict):
        return "{" + ", ".join(f"{key}: {_type_name(value)}" for key, value in feature.items()) + "}"
    return _dtype(feature) or type(feature).__name__

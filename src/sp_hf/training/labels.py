"""Labels of the training images, for objectives that learn from them: how many classes, and that none lies beyond.

What an objective says of itself: ``needs_labels``, and, where its head has one output a class, the option
``num_labels``. Labels are whole numbers from 0; -1, or none, marks an image without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from ..data.datasets import LoadedImages
from ..data.image_rows import ImageRows
from ..errors import InputError
from ..objectives import ObjectiveConfig, parse_entry

_ROWS = 1 << 16  # of the label column in memory at once


def with_num_labels(entries: list[dict[str, Any]], images: LoadedImages) -> list[dict[str, Any]]:
    """The objectives' entries, with each ``num_labels`` that was left open read from the dataset.

    Raises:
        ValueError: an objective needs labels and the dataset has none, has one beyond ``num_labels``, or is a stream
            that does not say how many classes there are.
    """
    parsed = {entry["name"]: parse_entry(entry) for entry in entries}
    learning = {name: config for name, (kind, config) in parsed.items() if kind.needs_labels}
    if not learning:
        return entries
    if images.label_column is None:
        raise InputError(
            f"objective {', '.join(map(repr, learning))} learns from labels, but {images.description} has no column of"
            f" labels (ClassLabel, or whole numbers called 'label'); its columns: {images.columns}."
            " Name one with --label_column."
        )
    ends = None if images.streaming else label_range(images)
    open_ones = {name for name, config in learning.items() if getattr(config, "num_labels", 0) is None}
    count = _number_of_classes(images, None if ends is None else ends[1]) if open_ones else None
    entries = [{**entry, "num_labels": count} if entry["name"] in open_ones else entry for entry in entries]
    if ends is not None:
        limits = label_limits({entry["name"]: parse_entry(entry)[1] for entry in entries})
        check_range(*ends, limits, images.description)
    return entries


def label_limits(configs: Mapping[str, ObjectiveConfig]) -> dict[str, int]:
    """``num_labels`` of each objective that has it, by name."""
    limits = {name: getattr(config, "num_labels", None) for name, config in configs.items()}
    return {name: limit for name, limit in limits.items() if limit is not None}


def label_range(images: LoadedImages) -> tuple[int, int]:
    """Lowest and highest label of a dataset that is not a stream; reads its label column only.

    Raises:
        ValueError: no image has a label.
    """
    if isinstance(images.dataset, ImageRows):
        labels = [label for label in images.dataset[images.label_column] if label is not None]
        ends = [{"min": min(labels), "max": max(labels)}] if labels else []
    else:
        column = images.dataset.select_columns([images.label_column]).with_format("arrow")
        ends = [pc.min_max(rows[images.label_column]).as_py() for rows in column.iter(_ROWS)]
    lows, highs = ([end[side] for end in ends if end[side] is not None] for side in ("min", "max"))
    if not highs or max(highs) < 0:
        raise InputError(f"the column {images.label_column!r} of {images.description} holds not one label.")
    return min(lows), max(highs)


def check_range(lowest: int, highest: int, limits: Mapping[str, int], source: str) -> None:
    """Raise ``ValueError`` unless labels from ``lowest`` to ``highest`` fit.

    Args:
        limits: ``num_labels`` of each objective, by name.
        source: of the labels, for the message.
    """
    for name, count in limits.items():
        if lowest < -1 or highest >= count:
            label = lowest if lowest < -1 else highest
            raise InputError(
                f"{source} has the label {label}, but objective {name!r} has num_labels {count}: labels go from 0 to"
                f" {count - 1}, and -1 is for none. Set num_labels in its entry, or name another --label_column."
            )


def _number_of_classes(images: LoadedImages, highest: int | None) -> int:
    if images.label_names is not None:
        return len(images.label_names)
    if highest is None:
        raise InputError(
            f"{images.description} is a stream whose labels are plain numbers, so the number of classes is not known"
            " before its end; write num_labels into the objective's entry in a recipe."
        )
    return highest + 1

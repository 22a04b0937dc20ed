"""The number of images of a dataset, for objectives that remember each of them.

What an objective says of itself: an option ``num_images``, which is ``None`` where it is left open. Images are told
apart by ``batch.ids``, from 0 to ``num_images - 1``; a stream has none.
"""

from __future__ import annotations

from typing import Any

from ..data.datasets import LoadedImages
from ..errors import InputError
from ..objectives import parse_entry


def with_num_images(entries: list[dict[str, Any]], images: LoadedImages) -> list[dict[str, Any]]:
    """The objectives' entries, with each ``num_images`` that was left open read from the dataset, if it is no stream.

    Raises:
        ValueError: an entry says another number than the dataset has, or any number of a stream.
    """
    filled = []
    for entry in entries:
        options = parse_entry(entry)[1]
        number = getattr(options, "num_images", 0)
        if number and (images.streaming or number != images.num_images):
            size = "is a stream, whose images have no numbers" if images.streaming else f"has {images.num_images}"
            raise InputError(
                f"objective {entry['name']!r} has num_images {number}, but {images.description} {size}; leave it out."
            )
        filled.append({**entry, "num_images": images.num_images} if number is None and not images.streaming else entry)
    return filled

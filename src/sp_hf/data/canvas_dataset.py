"""Map-style training data: rows to canvases, canvases to batches.

Letters: B images, S canvas side in px.

Decoding happens in ``CanvasDataset.__getitem__``, that is in the DataLoader's workers. An unreadable image is
replaced by its next readable neighbour, so batches keep their size, and what a batch holds depends on its
indices only (a resumed run sees the same); the bad image is reported through the batch, since a worker process
has no other way to tell the main one (see :class:`~sp_hf.data.skipped.SkippedLedger`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, get_worker_info

from ..errors import InputError, InputTypeError
from .canvas import MAX_PIXELS, UnreadableImage, make_canvas
from .datasets import LoadedImages

MAX_REPLACEMENTS = 1000
"""How many unreadable images in a row are replaced before a dataset is taken to be broken."""


def read_canvas(
    row: Mapping[str, Any], images: LoadedImages, size: int, max_pixels: int, box_columns: Sequence[str] = ()
) -> dict[str, Any]:
    """One sample: ``canvas`` uint8 [3, S, S], ``aspect`` (width / height) and, if there are any, ``label``, ``boxes``.

    A missing label becomes -1. ``boxes`` is {column: float32 [K, 4]}.

    Raises:
        UnreadableImage: the image cannot be decoded.
        ValueError: a column of boxes holds something else.
    """
    canvas, aspect = make_canvas(row[images.image_column], size, max_pixels=max_pixels)
    sample: dict[str, Any] = {"canvas": canvas, "aspect": aspect}
    if images.label_column is not None:
        label = row[images.label_column]
        sample["label"] = -1 if label is None else int(label)
    if box_columns:
        sample["boxes"] = {column: read_boxes(row[column], column) for column in box_columns}
    return sample


def read_boxes(value: Any, column: str) -> np.ndarray:
    """Boxes of one image, float32 [K, 4], from a list of (cx, cy, w, h), or of dicts that hold one as ``"box"``.

    Raises:
        ValueError: not four numbers a box, or not normalised.
    """
    listed = [item["box"] if isinstance(item, Mapping) and "box" in item else item for item in value or ()]
    try:
        boxes = np.asarray(listed, dtype=np.float32).reshape(len(listed), 4)
    except (TypeError, ValueError) as error:
        raise InputError(f"column {column!r} must hold lists of boxes (cx, cy, w, h), not {value!r}") from error
    if boxes.size and not (boxes.min() >= 0 and boxes.max() <= 1):
        wrong = boxes[np.abs(boxes - 0.5).max(1).argmax()].tolist()
        raise InputError(
            f"column {column!r} has the box {wrong}; boxes are (cx, cy, w, h) as fractions of the image's width and"
            " height, from 0 to 1"
        )
    return boxes


class CanvasDataset(Dataset):
    """index -> ``{"canvas", "aspect", "id", "label" (if the dataset has labels), "boxes" (if asked for), "skipped"}``.

    ``id`` is the row that the canvas is of: the same in every epoch.

    Args:
        images: from :func:`~sp_hf.data.datasets.load_images`, not streaming.
        canvas_size: S, in px.
        max_pixels: images with more are refused (decompression bombs).
        box_columns: columns of boxes to read, see :func:`read_boxes`.
    """

    def __init__(
        self,
        images: LoadedImages,
        canvas_size: int,
        *,
        max_pixels: int = MAX_PIXELS,
        box_columns: Sequence[str] = (),
    ) -> None:
        if images.streaming:
            raise InputTypeError(f"{images.description} is a stream; use sp_hf.data.streaming.streaming_dataloader")
        self.images, self.canvas_size, self.max_pixels = images, canvas_size, max_pixels
        self.box_columns = tuple(box_columns)

    def __len__(self) -> int:
        return len(self.images.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample; ``skipped`` lists the unreadable rows it stands in for, as ``"row 17 of X: reason"``.

        Raises:
            UnreadableImage: neither the image nor any of the next ``MAX_REPLACEMENTS`` can be read.
        """
        skipped: list[str] = []
        for step in range(min(len(self), MAX_REPLACEMENTS + 1)):
            row = (index + step) % len(self)
            try:
                fields = self.images.dataset[row]
                sample = read_canvas(fields, self.images, self.canvas_size, self.max_pixels, self.box_columns)
            except UnreadableImage as error:
                skipped.append(f"row {row} of {self.images.description}: {error}")
            else:
                return sample | {"id": row, "skipped": skipped}
        raise UnreadableImage(
            f"row {index} of {self.images.description} and the {len(skipped) - 1} after it",
            f"not one of these {len(skipped)} images can be read; the first: {skipped[0]}",
        )


class CanvasCollator:
    """Samples to a batch.

    Returns:
        ``canvases`` uint8 [B, 3, S, S], ``aspects`` float32 [B], ``labels`` int64 [B], ``ids`` int64 [B], ``boxes``
        {column: float32 [B, K, 4], zeros where an image has fewer} (if there are any) and ``skipped``, the reports of
        all samples in one list of strings.
    """

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = {
            "canvases": _stacked([sample["canvas"] for sample in samples]),  # [B, 3, S, S]
            "aspects": torch.tensor([sample["aspect"] for sample in samples], dtype=torch.float32),  # [B]
            "skipped": [report for sample in samples for report in sample.get("skipped", ())],
        }
        if "label" in samples[0]:
            batch["labels"] = torch.tensor([sample["label"] for sample in samples], dtype=torch.int64)  # [B]
        if "id" in samples[0]:
            batch["ids"] = torch.tensor([sample["id"] for sample in samples], dtype=torch.int64)  # [B]
        if "boxes" in samples[0]:
            batch["boxes"] = {
                column: pad_sequence([torch.from_numpy(s["boxes"][column]) for s in samples], batch_first=True)
                for column in samples[0]["boxes"]
            }
        return batch


def _stacked(canvases: Sequence[np.ndarray]) -> Tensor:
    """Canvases [3, S, S] as one tensor; a worker writes them where the main process reads them: one copy, not two."""
    shape = (len(canvases), *canvases[0].shape)
    if get_worker_info() is None:
        return torch.from_numpy(np.stack(canvases))
    storage = torch.UntypedStorage._new_shared(math.prod(shape))  # as torch's own collation does
    batch = torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
    np.stack(canvases, out=batch.numpy())
    return batch

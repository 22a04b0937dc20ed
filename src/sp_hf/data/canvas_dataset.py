"""Map-style training data: rows to canvases, canvases to batches.

Letters: B images, S canvas side in px.

Decoding happens in ``CanvasDataset.__getitem__``, that is in the DataLoader's workers. An unreadable image is
replaced by its next readable neighbour, so batches keep their size, and what a batch holds depends on its
indices only (a resumed run sees the same); the bad image is reported through the batch, since a worker process
has no other way to tell the main one (see :class:`~sp_hf.data.skipped.SkippedLedger`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputTypeError
from .canvas import MAX_PIXELS, UnreadableImage, make_canvas
from .datasets import LoadedImages

MAX_REPLACEMENTS = 1000
"""How many unreadable images in a row are replaced before a dataset is taken to be broken."""


def read_canvas(row: Mapping[str, Any], images: LoadedImages, size: int, max_pixels: int) -> dict[str, Any]:
    """One sample: ``canvas`` uint8 [3, S, S], ``aspect`` (width / height) and, where there are any, ``label``.

    A missing label becomes -1.

    Raises:
        UnreadableImage: the image cannot be decoded.
    """
    canvas, aspect = make_canvas(row[images.image_column], size, max_pixels=max_pixels)
    sample: dict[str, Any] = {"canvas": canvas, "aspect": aspect}
    if images.label_column is not None:
        label = row[images.label_column]
        sample["label"] = -1 if label is None else int(label)
    return sample


class CanvasDataset(Dataset):
    """index -> ``{"canvas", "aspect", "label" (if the dataset has labels), "skipped"}``.

    Args:
        images: from :func:`~sp_hf.data.datasets.load_images`, not streaming.
        canvas_size: S, in px.
        max_pixels: images with more are refused (decompression bombs).
    """

    def __init__(self, images: LoadedImages, canvas_size: int, *, max_pixels: int = MAX_PIXELS) -> None:
        if images.streaming:
            raise InputTypeError(f"{images.description} is a stream; use sp_hf.data.streaming.streaming_dataloader")
        self.images, self.canvas_size, self.max_pixels = images, canvas_size, max_pixels

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
                sample = read_canvas(self.images.dataset[row], self.images, self.canvas_size, self.max_pixels)
            except UnreadableImage as error:
                skipped.append(f"row {row} of {self.images.description}: {error}")
            else:
                return sample | {"skipped": skipped}
        raise UnreadableImage(
            f"rows {index} to {row} of {self.images.description}",
            f"not one of these {len(skipped)} images can be read; the first: {skipped[0]}",
        )


class CanvasCollator:
    """Samples to a batch.

    Returns:
        ``canvases`` uint8 [B, 3, S, S], ``aspects`` float32 [B], ``labels`` int64 [B] (if there are any) and
        ``skipped``, the reports of all samples in one list of strings.
    """

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor | list[str]]:
        batch: dict[str, Tensor | list[str]] = {
            "canvases": torch.from_numpy(np.stack([sample["canvas"] for sample in samples])),  # [B, 3, S, S]
            "aspects": torch.tensor([sample["aspect"] for sample in samples], dtype=torch.float32),  # [B]
            "skipped": [report for sample in samples for report in sample.get("skipped", ())],
        }
        if "label" in samples[0]:
            batch["labels"] = torch.tensor([sample["label"] for sample in samples], dtype=torch.int64)  # [B]
        return batch

"""Decoded images in memory: whole ones as models see them, and canvases from which crops and tiles are cut.

Letters: n images, S side in px.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .features import ImageSample, ProbeImages, read_images
from .model import Preprocess
from .once import Once
from .whole_images import WholeImages, whole_image_loader


class PixelsKey(NamedTuple):
    """What whole images depend on: the transform, the sample, and how many of it."""

    transform: str
    sample: Hashable
    images: int | None


class CanvasesKey(NamedTuple):
    """What canvases depend on: the sample, how many of it, and S."""

    sample: Hashable
    images: int
    size: int


class ImagesInMemory:
    """The images of an evaluation, decoded once for all models, and kept until they are freed.

    Args:
        seed: of the canvases' random keys.
        batch_size: images read at once.
        num_workers: processes that decode whole images.
        progress: show bars.
    """

    def __init__(self, seed: int, batch_size: int, num_workers: int, progress: bool) -> None:
        self.seed, self.batch_size, self.num_workers, self.progress = seed, batch_size, num_workers, progress
        self._pixels: Once[PixelsKey, tuple[Tensor, Tensor]] = Once()
        self._canvases: Once[CanvasesKey, ProbeImages] = Once()

    def pixels(self, preprocess: Preprocess, sample: ImageSample, max_images: int | None) -> WholeImages:
        """See :meth:`sp_hf.evaluation.data.EvaluationData.pixels`."""
        key = PixelsKey(preprocess.identity, sample.key, max_images)
        pixels, rows = self._pixels.get(key, lambda: self._read_pixels(preprocess, sample, max_images))
        return WholeImages(pixels, None if sample.labels is None else sample.labels[rows], rows)

    def _read_pixels(
        self, preprocess: Preprocess, sample: ImageSample, max_images: int | None
    ) -> tuple[Tensor, Tensor]:
        """uint8 [n, 3, S, S], and which rows of the sample they are, int64 [n]."""
        chosen = sample.evenly_spaced(max_images)
        part = sample.select(chosen)
        loader = whole_image_loader(part, preprocess, self.batch_size, self.num_workers)
        batches = [(pixels, indices) for pixels, indices, _ in loader if len(indices)]
        if not batches:
            raise InputError(f"{sample.images.description}: not one of {len(chosen)} images can be read")
        rows = torch.from_numpy(chosen)[torch.cat([indices for _, indices in batches])]
        return torch.cat([pixels for pixels, _ in batches]), rows

    def canvases(self, sample: ImageSample, size: int, max_images: int | None) -> ProbeImages:
        """See :meth:`sp_hf.evaluation.data.EvaluationData.canvases`."""
        chosen = sample.evenly_spaced(max_images)
        part = sample if len(chosen) == len(sample.rows) else sample.select(chosen)
        key = CanvasesKey(sample.key, len(chosen), size)
        return self._canvases.get(key, lambda: read_images(part, size, seed=self.seed, progress=self.progress))

    def free(self, canvas_sizes: Collection[int] = ()) -> None:
        """Free all but the canvases of these sizes."""
        self._pixels.drop()
        self._canvases.drop(lambda key: key.size not in canvas_sizes)

    @property
    def bytes(self) -> int:
        """How much is kept."""
        return sum(pixels.nbytes for pixels, _ in self._pixels) + sum(c.canvases.nbytes for c in self._canvases)

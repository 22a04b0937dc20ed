"""The images of an evaluation and what models make of them, shared by all its tasks.

Whole images are decoded in worker processes, preprocessed as the model's own image processor does, and encoded batch
by batch; what comes out is cached (:mod:`sp_hf.evaluation.cache`), so that kNN, the linear probe and a second run read
the same features. Crops are cut from canvases kept in memory, which all models share.

Letters: n images, B images of a batch, S side in px, D feature size.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
from collections.abc import Callable, Collection, Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..encoders.encoder import Encoding
from ..errors import InputError
from ..views.spec import ViewSpec
from .accuracy import known
from .cache import FeatureCache
from .features import Features, ImageSample, ProbeImages, extract_features
from .image_sizes import own_side
from .in_memory import ImagesInMemory
from .model import EvaluatedModel
from .once import Once
from .probes.linear import LinearProbe, fit_linear
from .samples import Samples
from .source import DataSource
from .two_sides import TwoSides, describe_sides
from .whole_images import (
    WholeFeatures,
    WholeImages,
    as_tensor,
    cls_and_mean_patch,
    encode_images,
    whole_image_loader,
)

logger = logging.getLogger(__name__)


Arrays = dict[str, np.ndarray]


class FeaturesKey(NamedTuple):
    """What is kept of a model's encodings of whole images."""

    model: EvaluatedModel
    sample: Hashable
    what: str


class CropsKey(NamedTuple):
    """A model's features of crops."""

    model: EvaluatedModel
    sample: Hashable
    spec: ViewSpec
    canvas_size: int
    images: int | None


class EvaluationData(Samples):
    """The images and features of an evaluation, each decoded or computed once for all tasks.

    Args:
        source: the datasets of the run.
        seed: of every random choice.
        cache: of features.
        batch_size: B.
        num_workers: processes that decode.
        progress: show bars.
        keep_pixels: decode whole images once and keep them in memory, for encoders that are measured again and again.
        refits: how often cheap probes are fitted again to half of the training images, for intervals that cover them.

    Attributes:
        of_task: what a task computed of it, see :func:`~sp_hf.evaluation.task.once_a_task`.
    """

    def __init__(
        self,
        source: DataSource,
        *,
        seed: int = 0,
        cache: FeatureCache | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        progress: bool = False,
        keep_pixels: bool = False,
        refits: int = 0,
    ) -> None:
        super().__init__(source, seed)
        for name, value, least in (("seed", seed, 0), ("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise InputError(f"{name} is {value}; it must be at least {least}")
        self.progress = progress
        self.cache = cache or FeatureCache(None)
        self.batch_size, self.num_workers, self.keep_pixels = batch_size, num_workers, keep_pixels
        self.refits = refits
        self._in_memory = ImagesInMemory(seed, batch_size, num_workers, progress)
        self._features: Once[FeaturesKey, Arrays] = Once()
        self._crops: Once[CropsKey, Arrays] = Once()
        self._probes: Once[EvaluatedModel, LinearProbe] = Once()
        self._own_sides: Once[Hashable, float] = Once()
        self.of_task: Once[Hashable, Any] = Once()

    def for_task(self) -> EvaluationData:
        """The same images and features for one task, with a place of its own for what it computes of them."""
        data = copy.copy(self)
        data.of_task = Once()
        return data

    def free_images(self, canvas_sizes: Collection[int] = ()) -> None:
        """Free the images in memory, but for canvases of these sizes."""
        self._in_memory.free(canvas_sizes)

    def forget(self, model: EvaluatedModel) -> None:
        """Drop what was computed of one model's encoder, as its weights will have changed."""
        for store in (self._features, self._crops):
            store.drop(lambda key: key.model.encoder is model.encoder)
        self._probes.drop(lambda other: other.encoder is model.encoder)

    @functools.cached_property
    def two_sides(self) -> TwoSides:
        """Facts of both sides; images are read for them, and not decoded."""
        return describe_sides(self)

    def own_side(self, sample: ImageSample, max_images: int | None = None) -> float:
        """How many pixels images have of their own, see :func:`~sp_hf.evaluation.image_sizes.own_side`."""
        part = self.part(sample, sample.evenly_spaced(max_images))
        return self._own_sides.get(part.key, lambda: own_side(part))

    def linear_probe(self, model: EvaluatedModel) -> LinearProbe:
        """The linear probe of a model on the training images: trained once, shared by all tasks that classify."""
        train = self.features(model, self.train)
        labels = known(train.labels)
        return self._probes.get(
            model,
            lambda: fit_linear(train.embedding(), labels, seed=self.seed, refits=self.refits, device=model.device),
        )

    def features(self, model: EvaluatedModel, sample: ImageSample) -> WholeFeatures:
        """Features of whole images, from memory, from the cache, or computed.

        Raises:
            ValueError: not one image can be read, or a feature that is not finite.
        """
        arrays = self.encode(model, sample, cls_and_mean_patch, "cls, mean_patch")
        rows = torch.from_numpy(np.array(arrays["rows"]))
        return WholeFeatures(
            cls=as_tensor(arrays["cls"]),
            mean_patch=as_tensor(arrays["mean_patch"]),
            labels=None if sample.labels is None else sample.labels[rows],
            rows=rows,
            skipped=arrays["skipped"].tolist(),
        )

    def encode(
        self, model: EvaluatedModel, sample: ImageSample, read: Callable[[Encoding], dict[str, Tensor]], what: str
    ) -> Arrays:
        """Encode whole images and keep what ``read`` takes of each batch's encoding, cached.

        Args:
            model: on its device.
            sample: from :meth:`sample`.
            read: from an encoding of B images to tensors of B rows, float32 or float16, by name.
            what: tells what ``read`` takes, for the cache: another function needs another text.

        Returns:
            The arrays by name, memory-mapped where they are cached, ``rows`` int64 and ``skipped`` texts.
        """
        parts = None
        if sample.identity is not None and self.cache.directory is not None:
            parts = {
                "model": model.identity,
                "images": sample.identity,
                "transform": model.preprocess.identity,
                "what": what,
            }
        hits = self.cache.hits
        arrays = self._features.get(
            FeaturesKey(model, sample.key, what),
            lambda: self.cache.get(parts, lambda folder: self._compute(model, sample, read, folder)),
        )
        if self.cache.hits > hits:
            logger.info(
                "%s: features of %s are reused from %s", model.name, sample.images.description, self.cache.directory
            )
        return arrays

    def _compute(
        self,
        model: EvaluatedModel,
        sample: ImageSample,
        read: Callable[[Encoding], dict[str, Tensor]],
        folder: Path | None,
    ) -> Arrays:
        batches = self._kept(model, sample) if self.keep_pixels else self._read(model, sample)
        return encode_images(model, sample, batches, read, folder, self.progress)

    def _kept(self, model: EvaluatedModel, sample: ImageSample) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        kept = self.pixels(model, sample)
        for start in range(0, len(kept.pixels), self.batch_size):
            batch = slice(start, start + self.batch_size)
            yield kept.pixels[batch], kept.rows[batch], []

    def _read(self, model: EvaluatedModel, sample: ImageSample) -> DataLoader:
        return whole_image_loader(sample, model.preprocess, self.batch_size, self.num_workers)

    def pixels(self, model: EvaluatedModel, sample: ImageSample, max_images: int | None = None) -> WholeImages:
        """Whole images as this model sees them, in memory (3 S^2 bytes each), shared by models that preprocess alike.

        Args:
            model: its preprocessing is used.
            sample: from :meth:`sample`.
            max_images: only so many, evenly spaced over the sample; ``None`` for all.
        """
        return self._in_memory.pixels(model.preprocess, sample, max_images)

    def canvases(self, sample: ImageSample, canvas_size: int, max_images: int | None = None) -> ProbeImages:
        """Canvases in memory, for crops and tiles; all models share them. ``max_images`` as for :meth:`pixels`."""
        return self._in_memory.canvases(sample, canvas_size, max_images)

    def crops(
        self,
        model: EvaluatedModel,
        sample: ImageSample,
        spec: ViewSpec,
        canvas_size: int,
        max_images: int | None = None,
    ) -> Features:
        """Features of crops, cached: the same boxes for every model.

        Args:
            model: on its device.
            sample: from :meth:`sample`.
            spec: of the crops.
            canvas_size: side in px at which images are kept.
            max_images: as for :meth:`pixels`.
        """
        parts = None
        if sample.identity is not None and self.cache.directory is not None:
            parts = {
                "model": model.identity,
                "images": sample.identity,
                "views": json.dumps(spec.to_dict(), sort_keys=True),
                "canvas": canvas_size,
                "max_images": max_images,
                "seed": self.seed,
                "device": model.device.type,  # views differ by a quarter of a grey level
            }

        def compute(_: Path | None) -> Arrays:
            images = self.canvases(sample, canvas_size, max_images)
            per_batch = max(1, self.batch_size // spec.count)
            features = extract_features(
                model.encoder, images, {"crops": spec}, batch_size=per_batch, progress=self.progress, name=model.name
            )["crops"]
            return {name: value.numpy() for name, value in features._asdict().items()}

        key = CropsKey(model, sample.key, spec, canvas_size, max_images)
        hits = self.cache.hits
        arrays = self._crops.get(key, lambda: self.cache.get(parts, compute))
        if self.cache.hits > hits:
            logger.info(
                "%s: features of crops of %s are reused from %s",
                model.name,
                sample.images.description,
                self.cache.directory,
            )
        return Features(**{name: as_tensor(arrays[name]) for name in Features._fields})

"""Frozen features: a sample of a split, decoded once, and what an encoder makes of views of it.

Letters: n images, S canvas side in px, B images of a batch, V views of an image, H view side in px, D feature size.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..data.canvas import MAX_PIXELS, UnreadableImage
from ..data.canvas_dataset import read_canvas
from ..data.datasets import LoadedImages
from ..data.image_rows import ImageRows
from ..encoders.encoder import Encoding
from ..errors import InputError
from ..views.keyed_random import sample_keys
from ..views.sampler import ViewSampler
from ..views.spec import ViewSpec


class FrozenEncoder(Protocol):
    """What can be probed: :class:`~sp_hf.encoders.encoder.Encoder`, a control, or any module of the same form."""

    def patches_of(self, size: int) -> tuple[int, int]:
        """Patch grid of a square view; raises ValueError where it cannot encode one."""

    def __call__(self, pixels: Tensor) -> Encoding:
        """Pixels float [B, 3, H, H] in [0, 1]."""


class ImageSample(NamedTuple):
    """Rows chosen from a split, not yet decoded.

    Args:
        rows: list, ``Dataset`` or ``ImageRows`` of mappings with the image and label columns of ``images``.
        labels: int64 [n], -1 where a row has none; ``None`` where the dataset has none.
        images: the split they were chosen from.
    """

    rows: Any
    labels: Tensor | None
    images: LoadedImages

    @property
    def identity(self) -> str | None:
        """Differs where the rows do, and outlives the process; ``None`` for the rows of a stream."""
        fingerprint = getattr(self.rows, "_fingerprint", None)
        return None if fingerprint is None else f"{self.images.image_column} of {fingerprint}"

    @property
    def key(self) -> Hashable:
        """Differs where the rows do, in this process, while they are in memory."""
        return self.identity or id(self.rows)

    def evenly_spaced(self, count: int | None) -> np.ndarray:
        """Indices of ``count`` rows, evenly spaced; of all where there are no more, or for ``None``."""
        n = len(self.rows)
        count = n if count is None else min(count, n)
        return np.arange(count) * n // max(count, 1)

    def select(self, chosen: np.ndarray) -> ImageSample:
        """Some of the rows, by index."""
        rows = [self.rows[int(i)] for i in chosen] if isinstance(self.rows, list) else self.rows.select(chosen)
        return ImageSample(rows, None if self.labels is None else self.labels[torch.from_numpy(chosen)], self.images)


@dataclasses.dataclass(frozen=True)
class ProbeImages:
    """A decoded sample of a split: 3 S^2 bytes an image, so that every probe of a run reads it again for nothing.

    Args:
        canvases: uint8 [n, 3, S, S].
        aspects: float32 [n], width / height of the true images.
        keys: int64 [n], one random key an image, for its crops.
        labels: int64 [n], -1 where an image has none; ``None`` where the dataset has none.
        skipped: reports of the images that could not be read, which are left out.
        description: the source in one line.
    """

    canvases: Tensor
    aspects: Tensor
    keys: Tensor
    labels: Tensor | None
    skipped: list[str]
    description: str

    def __len__(self) -> int:
        return self.canvases.shape[0]


class Features(NamedTuple):
    """Embeddings of views, on the CPU.

    Args:
        cls: float32 [n, V, D], the class token (see :class:`~sp_hf.encoders.encoder.Encoding`).
        mean_patch: float32 [n, V, D], the mean of the patch tokens.
        boxes: float32 [n, V, 4], the views' boxes, cxcywh.
    """

    cls: Tensor
    mean_patch: Tensor
    boxes: Tensor


def choose_images(images: LoadedImages, max_images: int | None, seed: int) -> ImageSample:
    """A random sample of a split, without decoding anything.

    The sample is uniform, except that every class has at least one image in it if ``max_images`` allows and labels can
    be had without the images. Of a stream, the first ``max_images`` rows are taken.

    Args:
        images: from :func:`~sp_hf.data.datasets.load_images`.
        max_images: size of the sample; ``None`` is the whole split.
        seed: of the choice.

    Raises:
        ValueError: ``max_images`` is not positive, or ``None`` for a stream.
    """
    if max_images is not None and max_images < 1:
        raise InputError(f"max_images is {max_images}; it must be at least 1 (None for the whole split)")
    if images.streaming:
        if max_images is None:
            raise InputError(f"{images.description} is a stream: say how many of its rows to take with max_images")
        stream: Any = images.dataset
        rows: Any = list(stream.take(max_images))
        labels = _labels(row[images.label_column] for row in rows) if images.label_column else None
        return ImageSample(rows, labels, images)
    labels = labels_of(images)
    order = _sampling_order(len(images.dataset), labels, seed)
    chosen = np.sort(order[:max_images])
    rows = images.dataset.select(chosen)
    if labels is not None:
        labels = labels[torch.from_numpy(chosen)]
    elif images.label_column:
        labels = _labels(rows.select_columns([images.label_column])[images.label_column])
    return ImageSample(rows, labels, images)


def labels_of(images: LoadedImages) -> Tensor | None:
    """All labels, int64 [n], -1 for none; ``None`` where there are none, or none without reading every image."""
    column, rows = images.label_column, images.dataset
    if column is None or (isinstance(rows, ImageRows) and not rows.knows(column)):
        return None
    return _labels(rows.select_columns([column])[column])


def _labels(values: Iterable[int | None]) -> Tensor:
    return torch.tensor([-1 if value is None else int(value) for value in values], dtype=torch.int64)


def _sampling_order(count: int, labels: Tensor | None, seed: int) -> np.ndarray:
    """A random order of the rows in which the first row of every class comes before all others."""
    order = np.random.default_rng(seed).permutation(count)
    if labels is None:
        return order
    first = np.sort(np.unique(labels.numpy()[order], return_index=True)[1])
    return np.concatenate([order[first], np.delete(order, first)])


def read_images(
    sample: ImageSample, canvas_size: int, *, seed: int, max_pixels: int = MAX_PIXELS, progress: bool = False
) -> ProbeImages:
    """Decode a sample to canvases; unreadable images are left out and reported.

    Args:
        sample: from :func:`choose_images`.
        canvas_size: S in px.
        seed: of the images' random keys.
        max_pixels: images with more are refused (decompression bombs).
        progress: show a bar.

    Raises:
        ValueError: not one image can be read.
    """
    canvases, aspects, kept, skipped = [], [], [], []
    for index, row in enumerate(tqdm(sample.rows, desc="decoding", unit="image", disable=not progress, leave=False)):
        try:
            decoded = read_canvas(row, sample.images, canvas_size, max_pixels)
        except UnreadableImage as error:
            skipped.append(str(error))
            continue
        canvases.append(torch.from_numpy(decoded["canvas"]))
        aspects.append(decoded["aspect"])
        kept.append(index)
    if not kept:
        raise InputError(f"{sample.images.description}: not one of {len(skipped)} images can be read; {skipped[0]}")
    return ProbeImages(
        canvases=torch.stack(canvases),
        aspects=torch.tensor(aspects, dtype=torch.float32),
        keys=sample_keys(seed, 0, len(sample.rows))[kept],
        labels=None if sample.labels is None else sample.labels[kept],
        skipped=skipped,
        description=sample.images.description,
    )


@torch.no_grad()
def extract_features(
    encoder: FrozenEncoder,
    images: ProbeImages,
    specs: Mapping[str, ViewSpec],
    *,
    batch_size: int = 64,
    progress: bool = False,
    name: str = "encoder",
) -> dict[str, Features]:
    """Encode views of every image, in float32 and evaluation mode, which is put back afterwards.

    Args:
        encoder: views are made on the device its parameters are on.
        images: from :func:`read_images`.
        specs: view sets by name.
        batch_size: B, images at a time.
        progress: show a bar.
        name: of the encoder, for the bar and for errors.

    Raises:
        ValueError: a view size the encoder cannot take, or a feature that is not finite.
    """
    for spec in specs.values():
        encoder.patches_of(spec.size)
    device = _device_of(encoder)
    sampler = ViewSampler(specs)
    parts: dict[str, list[Features]] = {view_set: [] for view_set in specs}
    starts = range(0, len(images), batch_size)
    with evaluating(encoder):
        for start in tqdm(starts, desc=f"{name}: encoding crops", disable=not progress, leave=False):
            batch = slice(start, start + batch_size)
            canvases, aspects, keys = (t[batch].to(device) for t in (images.canvases, images.aspects, images.keys))
            for view_set, views in sampler(canvases, aspects, keys).items():
                assert views.boxes is not None  # as of every sampled view
                encoding = encoder(views.pixels.flatten(0, 1))
                lead = views.boxes.shape[:2]
                parts[view_set].append(
                    Features(
                        encoding.cls.float().unflatten(0, lead).cpu(),
                        encoding.patches.float().mean(-2).unflatten(0, lead).cpu(),
                        views.boxes.cpu(),
                    )
                )
    features = {view_set: Features(*map(torch.cat, zip(*batches, strict=True))) for view_set, batches in parts.items()}
    for view_set, batches in features.items():
        _check_finite(batches, f"{name} on {images.description}, views {view_set!r}")
    return features


def _device_of(encoder: FrozenEncoder) -> torch.device:
    parameters = encoder.parameters() if isinstance(encoder, nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device


@contextlib.contextmanager
def evaluating(encoder: FrozenEncoder) -> Iterator[None]:
    """Evaluation mode for the length of a with-block; every module then gets its own mode back."""
    modules = list(encoder.modules()) if isinstance(encoder, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _check_finite(features: Features, what: str) -> None:
    finite = features.cls.isfinite().all(-1) & features.mean_patch.isfinite().all(-1)  # [n, V]
    if not finite.all():
        raise InputError(
            f"{int((~finite).sum())} of {finite.numel()} feature vectors ({what}) hold NaN or infinity; the encoder's"
            " weights have diverged, or its precision is too low"
        )

"""The images of an evaluation and what models make of them, shared by all its tasks.

Whole images are decoded in worker processes, preprocessed as the model's own image processor does, and encoded batch
by batch; what comes out is cached (:mod:`sp_hf.evaluation.cache`), so that kNN, the linear probe and a second run read
the same features. Crops are cut from canvases kept in memory, which all models share.

Letters: n images, B images of a batch, S side in px, D feature size.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..data.canvas import UnreadableImage, decode
from ..data.datasets import EMBEDDED, LoadedImages, load_images
from ..encoder import Encoding
from ..views import ViewSpec
from .cache import FeatureCache
from .features import Features, ImageSample, ProbeImages, choose_images, extract_features, read_images
from .model import EvaluatedModel, Preprocess
from .splits import open_validation

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class DataSource:
    """Where images come from: the arguments of :func:`~sp_hf.data.datasets.load_images` for both sides.

    Args:
        dataset, split, config, revision: training side.
        validation_dataset, validation_split: validation side; ``None``: the same dataset, and the first split there is
            of validation, val and test.
        image_column, label_column: of both; ``None``: found by type.
        max_images: of each side, chosen at random; ``None`` for all.
    """

    dataset: str = EMBEDDED
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    validation_dataset: str | None = None
    validation_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    max_images: int | None = None

    @property
    def embedded(self) -> bool:
        """Whether it is PartScenes."""
        return self.dataset.partition("?")[0] == EMBEDDED

    def open(self, side: str, extra_columns: Sequence[str] = ()) -> LoadedImages:
        """The ``"train"`` or the ``"validation"`` side.

        Raises:
            DatasetLoadError, ColumnError: see :func:`~sp_hf.data.datasets.load_images`.
        """
        columns = {
            "image_column": self.image_column,
            "label_column": self.label_column,
            "extra_columns": tuple(extra_columns),
        }
        if side == "train":
            return load_images(self.dataset, split=self.split, config=self.config, revision=self.revision, **columns)
        if self.validation_dataset:
            return open_validation(self.validation_dataset, self.validation_split, of_its_own=True, **columns)
        return open_validation(
            self.dataset, self.validation_split, config=self.config, revision=self.revision, **columns
        )


class WholeFeatures(NamedTuple):
    """Features of whole images, in the sample's order; memory-mapped where they are cached.

    Args:
        cls: float32 [n, D], the class token (see :class:`~sp_hf.encoder.Encoding`).
        mean_patch: float32 [n, D], the mean of the patch tokens.
        labels: int64 [n], -1 for none; ``None`` where the dataset has none.
        rows: int64 [n], which rows of the sample they are (unreadable images are left out).
        skipped: reports of the images that could not be read.
    """

    cls: Tensor
    mean_patch: Tensor
    labels: Tensor | None
    rows: Tensor
    skipped: list[str]

    def embedding(self) -> Tensor:
        """Class token and mean patch token side by side: [n, 2 D]."""
        return torch.cat([self.cls, self.mean_patch], dim=-1)


class WholeImages(NamedTuple):
    """Whole images as a model sees them, in memory.

    Args:
        pixels: uint8 [n, 3, S, S].
        labels: int64 [n], -1 for none; ``None`` where the dataset has none.
        rows: int64 [n], which rows of the sample they are.
    """

    pixels: Tensor
    labels: Tensor | None
    rows: Tensor


class EvaluationData:
    """What tasks ask for images and features.

    Args:
        source: the datasets of the run.
        seed: of every random choice.
        cache: of features.
        batch_size: B.
        num_workers: processes that decode.
        progress: show bars.
        keep_pixels: decode whole images once and keep them in memory, for encoders that are measured again and again.
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
    ) -> None:
        self.source, self.seed, self.progress = source, seed, progress
        self.cache = cache or FeatureCache(None)
        self.batch_size, self.num_workers, self.keep_pixels = batch_size, num_workers, keep_pixels
        self._memo: dict[Hashable, Any] = {}

    @property
    def train(self) -> ImageSample:
        """The training side, chosen and not decoded."""
        return self.sample(self.source, "train")

    @property
    def validation(self) -> ImageSample:
        """The validation side, chosen and not decoded."""
        return self.sample(self.source, "validation")

    def sample(self, source: DataSource, side: str, extra_columns: Sequence[str] = ()) -> ImageSample:
        """A side of any source, opened once a run."""
        key = ("sample", source, side, tuple(extra_columns))
        return self.memo(key, lambda: choose_images(source.open(side, extra_columns), source.max_images, self.seed))

    def memo(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What was computed under this key before in this run, or is now: for what tasks share (a linear probe)."""
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]

    def forget(self, model: EvaluatedModel) -> None:
        """Drop what was remembered of one model (keys are tuples that hold it)."""
        self._memo = {
            key: value
            for key, value in self._memo.items()
            if not (isinstance(key, tuple) and any(k is model for k in key))
        }

    def features(self, model: EvaluatedModel, sample: ImageSample) -> WholeFeatures:
        """Features of whole images, from memory, from the cache, or computed.

        Raises:
            ValueError: not one image can be read, or a feature that is not finite.
        """
        arrays = self.encode(model, sample, _cls_and_mean_patch, "cls, mean_patch")
        rows = torch.from_numpy(np.array(arrays["rows"]))
        return WholeFeatures(
            cls=_tensor(arrays["cls"]),
            mean_patch=_tensor(arrays["mean_patch"]),
            labels=None if sample.labels is None else sample.labels[rows],
            rows=rows,
            skipped=arrays["skipped"].tolist(),
        )

    def encode(
        self, model: EvaluatedModel, sample: ImageSample, read: Callable[[Encoding], dict[str, Tensor]], what: str
    ) -> dict[str, np.ndarray]:
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
                "versions": [importlib.metadata.version(name) for name in ("torch", "transformers", "pillow")],
            }
        hits = self.cache.hits
        arrays = self.memo(
            ("features", model, sample.identity or id(sample.rows), what),
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
    ) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        rows, skipped, done = [], [], 0
        batches = self._kept(model, sample) if self.keep_pixels else self._loader(sample, model.preprocess)
        bar = tqdm(
            total=len(sample.rows), desc=f"{model.name}: encoding", unit="image", disable=not self.progress, leave=False
        )
        with bar, torch.inference_mode():
            for pixels, indices, reports in batches:
                skipped += reports
                bar.update(len(indices) + len(reports))
                if not len(indices):
                    continue
                for name, values in read(encode_pixels(model, pixels)).items():
                    if name not in arrays:
                        arrays[name] = _allocate(folder, name, len(sample.rows), values)
                    arrays[name][done : done + len(indices)] = values.cpu().numpy()
                rows.append(indices)
                done += len(indices)
        if not done:
            raise ValueError(f"{sample.images.description}: not one of {len(skipped)} images can be read; {skipped[0]}")
        for report in skipped:
            logger.warning("skipped an unreadable image: %s", report)
        for name, array in arrays.items():
            _check_finite(array[:done], f"{model.name}, {name} of {sample.images.description}")
            if isinstance(array, np.memmap):
                array.flush()
        if done < len(sample.rows):  # a file of the full length would end in zeros
            arrays = {name: np.array(array[:done]) for name, array in arrays.items()}
            for name in arrays if folder is not None else ():
                (folder / f"{name}.npy").unlink()
        return arrays | {"rows": torch.cat(rows).numpy(), "skipped": np.array(skipped, dtype=np.str_)}

    def _kept(self, model: EvaluatedModel, sample: ImageSample) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        kept = self.pixels(model, sample)
        for start in range(0, len(kept.pixels), self.batch_size):
            batch = slice(start, start + self.batch_size)
            yield kept.pixels[batch], kept.rows[batch], []

    def _loader(self, sample: ImageSample, preprocess: Preprocess) -> DataLoader:
        return DataLoader(
            _WholeImageRows(sample, preprocess),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=_collate,
            generator=torch.Generator(),  # or it would draw from the global one
            prefetch_factor=4 if self.num_workers else None,
        )

    def pixels(self, model: EvaluatedModel, sample: ImageSample, max_images: int | None = None) -> WholeImages:
        """Whole images as this model sees them, in memory (3 S^2 bytes each), shared by models that preprocess alike.

        Args:
            model: its preprocessing is used.
            sample: from :meth:`sample`.
            max_images: only so many, evenly spaced over the sample; ``None`` for all.
        """
        key = ("pixels", model.preprocess.identity, sample.identity or id(sample.rows), max_images)
        return self.memo(key, lambda: self._read_pixels(model, sample, max_images))

    def _read_pixels(self, model: EvaluatedModel, sample: ImageSample, max_images: int | None) -> WholeImages:
        n = len(sample.rows)
        count = n if max_images is None else min(max_images, n)
        chosen = np.arange(count) * n // count
        part = sample.select(chosen)
        batches = [(p, i) for p, i, _ in self._loader(part, model.preprocess) if len(i)]
        if not batches:
            raise ValueError(f"{sample.images.description}: not one of {count} images can be read")
        rows = torch.from_numpy(chosen)[torch.cat([indices for _, indices in batches])]
        labels = None if sample.labels is None else sample.labels[rows]
        return WholeImages(torch.cat([pixels for pixels, _ in batches]), labels, rows)

    def canvases(self, sample: ImageSample, canvas_size: int, max_images: int | None = None) -> ProbeImages:
        """Canvases in memory, for crops and tiles; all models share them. ``max_images`` as for :meth:`pixels`."""
        n = len(sample.rows)
        count = n if max_images is None else min(max_images, n)
        key = ("canvases", sample.identity or id(sample.rows), canvas_size, count)
        part = sample if count == n else sample.select(np.arange(count) * n // count)
        return self.memo(key, lambda: read_images(part, canvas_size, seed=self.seed, progress=self.progress))

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
                "versions": [importlib.metadata.version(name) for name in ("torch", "transformers", "pillow", "sp-hf")],
            }

        def compute(_: Path | None) -> dict[str, np.ndarray]:
            images = self.canvases(sample, canvas_size, max_images)
            per_batch = max(1, self.batch_size // spec.count)
            made = extract_features(
                model.encoder, images, {"crops": spec}, batch_size=per_batch, progress=self.progress, name=model.name
            )["crops"]
            return {name: value.numpy() for name, value in made._asdict().items()}

        key = ("crops", model, sample.identity or id(sample.rows), spec, canvas_size, max_images)
        hits = self.cache.hits
        arrays = self.memo(key, lambda: self.cache.get(parts, compute))
        if self.cache.hits > hits:
            logger.info(
                "%s: features of crops of %s are reused from %s",
                model.name,
                sample.images.description,
                self.cache.directory,
            )
        return Features(**{name: _tensor(arrays[name]) for name in Features._fields})


@torch.inference_mode()
def encode_pixels(model: EvaluatedModel, pixels: Tensor) -> Encoding:
    """Encode uint8 (0 to 255) or float (0 to 1) pixels [B, 3, S, S] on the model's device."""
    pixels = pixels.to(model.device, non_blocking=True)
    return model.encoder(pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels)


def _cls_and_mean_patch(encoding: Encoding) -> dict[str, Tensor]:
    return {"cls": encoding.cls.float(), "mean_patch": encoding.patches.float().mean(1)}


def _allocate(folder: Path | None, name: str, rows: int, values: Tensor) -> np.ndarray:
    shape, dtype = (rows, *values.shape[1:]), values.cpu().numpy().dtype
    if folder is None:
        return np.empty(shape, dtype)
    return open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def _check_finite(array: np.ndarray, what: str) -> None:
    bad = 0
    for start in range(0, len(array), 4096):
        block = array[start : start + 4096]
        bad += int((~np.isfinite(block.reshape(len(block), -1)).all(1)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {len(array)} feature vectors ({what}) hold NaN or infinity; the encoder's weights have diverged,"
            " or its precision is too low"
        )


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor on the array's memory, also if it is a read-only map (nothing here writes to features)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class _WholeImageRows(Dataset):
    """index -> (pixels uint8 [3, S, S] or None, index, report)."""

    def __init__(self, sample: ImageSample, preprocess: Preprocess) -> None:
        self.sample, self.preprocess = sample, preprocess

    def __len__(self) -> int:
        return len(self.sample.rows)

    def __getitem__(self, index: int) -> tuple[Tensor | None, int, str]:
        try:
            image = decode(self.sample.rows[index][self.sample.images.image_column])
        except UnreadableImage as error:
            return None, index, str(error)
        return torch.from_numpy(self.preprocess(image)), index, ""


def _collate(items: Sequence[tuple[Tensor | None, int, str]]) -> tuple[Tensor, Tensor, list[str]]:
    read = [(pixels, index) for pixels, index, _ in items if pixels is not None]
    reports = [report for pixels, _, report in items if pixels is None]
    pixels = torch.stack([pixels for pixels, _ in read]) if read else torch.empty(0, dtype=torch.uint8)
    return pixels, torch.tensor([index for _, index in read], dtype=torch.int64), reports

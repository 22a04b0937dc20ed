"""Whole images as a model sees them, read in batches, and what is kept of their features.

Letters: n images, B images of a batch, S side in px, D feature size.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..data.canvas import UnreadableImage, decode
from ..encoders.encoder import Encoding
from ..errors import InputError
from .features import ImageSample
from .model import EvaluatedModel, Preprocess

logger = logging.getLogger(__name__)


class WholeFeatures(NamedTuple):
    """Features of whole images, in the sample's order; memory-mapped where they are cached.

    Args:
        cls: float32 [n, D], the class token (see :class:`~sp_hf.encoders.encoder.Encoding`).
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


@torch.inference_mode()
def encode_pixels(model: EvaluatedModel, pixels: Tensor) -> Encoding:
    """Encode uint8 (0 to 255) or float (0 to 1) pixels [B, 3, S, S] on the model's device."""
    pixels = pixels.to(model.device, non_blocking=True)
    return model.encoder(pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels)


def cls_and_mean_patch(encoding: Encoding) -> dict[str, Tensor]:
    return {"cls": encoding.cls.float(), "mean_patch": encoding.patches.float().mean(1)}


def allocate(folder: Path | None, name: str, rows: int, values: Tensor) -> np.ndarray:
    shape, dtype = (rows, *values.shape[1:]), values.cpu().numpy().dtype
    if folder is None:
        return np.empty(shape, dtype)
    return open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)


def check_finite(array: np.ndarray, what: str) -> None:
    bad = 0
    for start in range(0, len(array), 4096):
        block = array[start : start + 4096]
        bad += int((~np.isfinite(block.reshape(len(block), -1)).all(1)).sum())
    if bad:
        raise InputError(
            f"{bad} of {len(array)} feature vectors ({what}) hold NaN or infinity; the encoder's weights have diverged,"
            " or its precision is too low"
        )


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor on the array's memory, also if it is a read-only map (nothing here writes to features)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class WholeImageRows(Dataset):
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


def whole_image_loader(sample: ImageSample, preprocess: Preprocess, batch_size: int, num_workers: int) -> DataLoader:
    """Batches of (pixels uint8 [B, 3, S, S], rows int64 [B], reports of unreadable images), in the sample's order."""
    return DataLoader(
        WholeImageRows(sample, preprocess),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_collate,
        prefetch_factor=4 if num_workers else None,
        generator=torch.Generator(),  # or it would draw from the global one
    )


def encode_images(
    model: EvaluatedModel,
    sample: ImageSample,
    batches: Iterable[tuple[Tensor, Tensor, list[str]]],
    read: Callable[[Encoding], dict[str, Tensor]],
    folder: Path | None,
    progress: bool,
) -> dict[str, np.ndarray]:
    """Encode batches and keep what ``read`` takes of each encoding; unreadable images are left out and told.

    Args:
        model: on its device.
        sample: which the batches are of.
        batches: as of :func:`whole_image_loader`.
        read: from an encoding of B images to tensors of B rows, by name.
        folder: into which arrays are written as they are made; ``None``: they are made in memory.
        progress: show a bar.

    Returns:
        The arrays by name, ``rows`` int64 and ``skipped`` texts.

    Raises:
        ValueError: not one image can be read, or a feature that is not finite.
    """
    arrays: dict[str, np.ndarray] = {}
    rows: list[Tensor] = []
    skipped: list[str] = []
    done, total = 0, len(sample.rows)
    bar = tqdm(total=total, desc=f"{model.name}: encoding", unit="image", disable=not progress, leave=False)
    with bar, torch.inference_mode():
        for pixels, indices, reports in batches:
            skipped += reports
            bar.update(len(indices) + len(reports))
            if not len(indices):
                continue
            for name, values in read(encode_pixels(model, pixels)).items():
                if name not in arrays:
                    arrays[name] = allocate(folder, name, total, values)
                arrays[name][done : done + len(indices)] = values.cpu().numpy()
            rows.append(indices)
            done += len(indices)
    if not done:
        raise InputError(f"{sample.images.description}: not one of {len(skipped)} images can be read; {skipped[0]}")
    for report in skipped:
        logger.warning("skipped an unreadable image: %s", report)
    for name, array in arrays.items():
        check_finite(array[:done], f"{model.name}, {name} of {sample.images.description}")
        if isinstance(array, np.memmap):
            array.flush()
    if done < total:
        arrays = _shortened(arrays, done, folder)
    return arrays | {"rows": torch.cat(rows).numpy(), "skipped": np.array(skipped, dtype=np.str_)}


def _shortened(arrays: dict[str, np.ndarray], count: int, folder: Path | None) -> dict[str, np.ndarray]:
    """Their first rows; files, which would end in zeros, go."""
    shortened = {name: np.array(array[:count]) for name, array in arrays.items()}
    if folder is not None:
        for name in arrays:
            (folder / f"{name}.npy").unlink()
    return shortened

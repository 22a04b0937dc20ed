"""Frozen features of jigsaw puzzles: of tiles encoded apart, and of images whose tiles are laid in any order; cached.

Letters: n images, B images of a batch, g cells a side, T = g^2 tiles, S image side in px, D feature size.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ....encoders.encoder import Encoding
from ....errors import InputError
from ....views.keyed_random import sample_keys
from ....views.photometric import Photometric
from ...features import ImageSample
from ...model import EvaluatedModel
from ...whole_images import encode_pixels
from .tiles import Puzzle, fill, lay, tiles_apart, token_weights

if TYPE_CHECKING:
    from ...data import EvaluationData


def part_of(data: EvaluationData, sample: ImageSample, images: int | None) -> ImageSample:
    """``images`` of a sample, evenly spaced; ``None`` for all."""
    return data.part(sample, sample.evenly_spaced(images))


def keys_of(data: EvaluationData, part: ImageSample) -> Tensor:
    """The images' random keys, of which puzzles are made: int64 [n]."""
    return sample_keys(data.seed, 0, len(part.rows))


def apart_features(
    model: EvaluatedModel,
    data: EvaluationData,
    part: ImageSample,
    puzzle: Puzzle,
    *,
    size: int,
    canvas_size: int,
    photometric: Photometric,
) -> tuple[Tensor, Tensor]:
    """Every tile encoded for itself.

    Args:
        model: on its device.
        part: of a side of the data.
        puzzle: how images are cut.
        size: side in px at which tiles are shown.
        canvas_size: side in px at which images are kept.
        photometric: jitter of each tile.

    Returns:
        Class token and mean patch token float32 [n, T, 2 D], in the order of the cells, and the images' rows int64 [n].
    """

    def compute(_: Path | None) -> dict[str, np.ndarray]:
        images = data.canvases(part, canvas_size)
        features = []
        for batch in _batches(model, data, len(images), max(1, data.batch_size // puzzle.tiles), puzzle):
            canvases, keys = (tensor[batch].to(model.device) for tensor in (images.canvases, images.keys))
            with torch.inference_mode():
                tiles = tiles_apart(puzzle, canvases, keys, size, photometric)  # [B, T, 3, N, N]
            encoding = encode_pixels(model, tiles.flatten(0, 1))
            features.append(_cls_and_mean_patch(encoding).unflatten(0, tiles.shape[:2]).cpu())
        rows = torch.isin(keys_of(data, part), images.keys).nonzero()[:, 0]
        return {"tiles": _checked(features, model, part), "rows": rows.numpy()}

    options = {"size": size, "canvas": canvas_size, "photometric": dataclasses.asdict(photometric)}
    arrays = _cached(model, data, part, {"jigsaw": "apart", **dataclasses.asdict(puzzle), **options}, compute)
    return torch.from_numpy(np.array(arrays["tiles"])), torch.from_numpy(np.array(arrays["rows"]))


def place_features(
    model: EvaluatedModel, data: EvaluationData, part: ImageSample, puzzle: Puzzle, rows: Tensor, places: Tensor
) -> Tensor:
    """The tile in each place of images whose tiles are laid in other places: the mean of the patch tokens on it.

    Args:
        model: on its device.
        part: of a side of the data.
        puzzle: how images are cut.
        rows: int64 [n], which images of it.
        places: int64 [n, T], where the tile of each cell is laid.

    Returns:
        float32 [n, T, D].
    """
    weights = token_weights(puzzle, model.size, patch_grid(model)).to(model.device)
    return _laid(model, data, part, puzzle, rows, places, "places", lambda encoding: weights @ encoding.patches.float())


def filled_features(
    model: EvaluatedModel, data: EvaluationData, part: ImageSample, puzzle: Puzzle, rows: Tensor, places: Tensor
) -> Tensor:
    """Whole images whose tiles are laid in other places, the gaps filled: class token and mean patch token.

    Args:
        model, part, puzzle, rows, places: as for :func:`place_features`.

    Returns:
        float32 [n, 2 D].
    """
    return _laid(model, data, part, puzzle, rows, places, "filled", _cls_and_mean_patch)


def _cls_and_mean_patch(encoding: Encoding) -> Tensor:
    return torch.cat([encoding.cls.float(), encoding.patches.float().mean(1)], dim=-1)


def _laid(
    model: EvaluatedModel,
    data: EvaluationData,
    part: ImageSample,
    puzzle: Puzzle,
    rows: Tensor,
    places: Tensor,
    what: Literal["places", "filled"],
    read: Callable[[Encoding], Tensor],
) -> Tensor:
    def compute(_: Path | None) -> dict[str, np.ndarray]:
        images = data.pixels(model, part)
        chosen, keys = torch.searchsorted(images.rows, rows), keys_of(data, part)[rows]
        features = []
        for batch in _batches(model, data, len(rows), data.batch_size, puzzle):
            pixels = lay(puzzle, images.pixels[chosen[batch]], keys[batch], places[batch])
            features.append(read(encode_pixels(model, fill(puzzle, pixels) if what == "filled" else pixels)).cpu())
        return {"features": _checked(features, model, part)}

    digest = hashlib.sha256(rows.numpy().tobytes() + places.numpy().tobytes()).hexdigest()
    options = {"transform": model.preprocess.identity, "order": digest}
    arrays = _cached(model, data, part, {"jigsaw": what, **dataclasses.asdict(puzzle), **options}, compute)
    return torch.from_numpy(np.array(arrays["features"]))


def patch_grid(model: EvaluatedModel) -> tuple[int, int]:
    """(rows, columns) of patch tokens of a whole image."""
    return model.encoder.patches_of(model.size)


def _batches(model: EvaluatedModel, data: EvaluationData, n: int, size: int, puzzle: Puzzle) -> tqdm:
    name = f"{model.name}: encoding {puzzle.grid} x {puzzle.grid} jigsaws"
    slices = [slice(start, start + size) for start in range(0, n, size)]
    return tqdm(slices, desc=name, disable=not data.progress, leave=False)


def _cached(
    model: EvaluatedModel,
    data: EvaluationData,
    part: ImageSample,
    what: dict[str, Any],
    compute: Callable[[Path | None], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    parts = None
    if part.identity is not None and data.cache.directory is not None:
        parts = {"model": model.identity, "images": part.identity, "seed": data.seed, "device": model.device.type}
        parts |= what
    return data.cache.get(parts, compute)


def _checked(batches: list[Tensor], model: EvaluatedModel, part: ImageSample) -> np.ndarray:
    features = torch.cat(batches)
    bad = int((~features.flatten(1).isfinite().all(1)).sum())
    if bad:
        raise InputError(
            f"features of {bad} of {len(features)} jigsaws ({model.name} on {part.images.description}) hold NaN or"
            " infinity; the encoder's weights have diverged, or its precision is too low"
        )
    return features.numpy()

"""Small datasets with an annotation a pixel, and encoders of which the right answer is known."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.cache import FeatureCache
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.source import DataSource

GRID, SIDE = 4, 16  # tokens and px a side


class GridMeans(nn.Module):
    """A token is the mean colour of its patch, through ``transform``."""

    def __init__(self, transform: Callable[[Tensor], Tensor] = lambda colours: colours) -> None:
        super().__init__()
        self.transform = transform

    def patches_of(self, size: int) -> tuple[int, int]:
        if size % GRID:
            raise ValueError(f"{size} px cannot be divided by {GRID}")
        return GRID, GRID

    def forward(self, pixels: Tensor) -> Encoding:
        patches = self.transform(F.adaptive_avg_pool2d(pixels, GRID).flatten(2).transpose(1, 2))
        return Encoding(patches.mean(1), patches, (GRID, GRID))


def model(encoder: nn.Module | None = None, name: str = "means") -> EvaluatedModel:
    return EvaluatedModel(name, encoder or GridMeans(), Preprocess.squash(SIDE))


def constant() -> EvaluatedModel:
    return model(GridMeans(lambda colours: torch.ones_like(colours)), "constant")


def encoded(array: np.ndarray, image_format: str = "PNG", **options: object) -> dict[str, object]:
    """A cell of an ``Image`` column."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, image_format, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def blocks(values: np.ndarray) -> np.ndarray:
    """[GRID, GRID, 3] colours to an image of SIDE px."""
    return np.kron(values, np.ones((SIDE // GRID, SIDE // GRID, 1))).astype(np.uint8)


def save(folder: Path, sides: dict[str, tuple[Sequence[object], Sequence[object]]], column: str) -> DataSource:
    """Images and annotations by split, as ``save_to_disk`` writes them."""
    features = datasets.Features({"image": datasets.Image(), column: datasets.Image()})
    splits = {
        split: datasets.Dataset.from_dict({"image": list(images), column: list(annotations)}, features=features)
        for split, (images, annotations) in sides.items()
    }
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return DataSource(dataset=str(folder), image_column="image")


def evaluation(source: DataSource, cache: FeatureCache | None = None) -> EvaluationData:
    return EvaluationData(source, cache=cache, batch_size=8)

"""In-context segmentation: every patch takes the classes of its nearest annotated patches. Nothing is trained.

The protocol of Hummingbird (Balazevic et al. 2023, "Towards in-context scene understanding", arXiv:2306.01667, section
3.1): a memory of patch tokens of training images, each with the fractions of its area that the classes take; a query
token q of a validation image attends to its k nearest ones,

    prediction(q) = sum over its k neighbours of  softmax(q . m / T) y        q, m at unit length

with k = 30 and T = 0.02, and predictions are upsampled bilinearly to the annotation. Images, tokens, classes and
metrics are those of :mod:`.task`, so the two can be compared: this one asks whether patches of one class lie together,
the linear classifier whether they can be told apart.

Deviations: images are squashed, not cropped and augmented; the memory is drawn at random, not evenly from classes, and
holds 20,000 tokens by default, where the paper has up to 10 million.

Letters: M tokens of the memory, N tokens of an image, D feature size, C classes, k neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ....errors import InputError
from ...model import EvaluatedModel
from ...task import Picture, TaskResult, option
from ..dense.dense_task import drawn_tokens, patch_tokens, readable
from ..dense.metrics import mean_iou, pixel_accuracy
from ..dense.patch_targets import class_fractions
from ..dense.pictures import draw_segmentation
from .task import Segmentation, iou_by_class

if TYPE_CHECKING:
    from ...data import EvaluationData

NEIGHBOURS = 30
TEMPERATURE = 0.02
MEMORY = 20_000  # tokens


@dataclasses.dataclass(frozen=True)
class Memory:
    """Annotated tokens, and how queries read them.

    Args:
        tokens: float32 [M, D], of unit length, on the device where similarities are computed.
        fractions: float32 [M, C], of the area of each that the classes take, on the same device.
        neighbours: k, at most M.
        temperature: T.
    """

    tokens: Tensor
    fractions: Tensor
    neighbours: int
    temperature: float

    @property
    def prior(self) -> Tensor:
        """[C], the fraction of the memory's area that each class takes."""
        return (self.fractions.sum(0) / self.fractions.sum()).cpu()

    def logits(self, queries: Tensor) -> Tensor:
        """Predicted fractions float32 [N, C] of tokens [N, D]."""
        queries = F.normalize(queries.to(self.tokens), dim=-1)
        similarity, nearest = (queries @ self.tokens.T).topk(self.neighbours, dim=-1)  # [N, k]
        weights = (similarity / self.temperature).softmax(-1)
        return torch.einsum("nk,nkc->nc", weights, self.fractions[nearest]).cpu()

    def adjustment(self) -> Tensor:
        """[C], none: neighbours vote as they are."""
        return torch.zeros(self.fractions.shape[1])


@dataclasses.dataclass(frozen=True)
class InContextSegmentation(Segmentation):
    """Which class each pixel belongs to, told by the nearest annotated patches."""

    name: ClassVar[str] = "in-context-segmentation"
    headline: ClassVar[tuple[str, ...]] = ("miou", "pixel_accuracy")

    neighbours: int = option(NEIGHBOURS, "k")
    temperature: float = option(TEMPERATURE, "T of the neighbours' weights")
    memory: int = option(MEMORY, "annotated patches, at most")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.neighbours < 1 or self.temperature <= 0 or self.memory < self.neighbours:
            raise InputError(
                f"{self.name} needs k >= 1, T > 0 and a memory of k or more; got k = {self.neighbours}, T ="
                f" {self.temperature}, memory = {self.memory}"
            )

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        annotations, (train, validation) = self._annotations(data), self.sides(data)
        tokens = readable(patch_tokens(model, data, train.images, self.size), annotations.train)

        def target(row: int) -> tuple[np.ndarray, np.ndarray]:
            fractions = class_fractions(annotations.of(train, row), tokens.grid, len(annotations.classes))
            return fractions, fractions.sum(1)

        drawn = drawn_tokens(tokens, target, data.seed, self.memory)
        bank, fractions = (values.to(model.device) for values in (F.normalize(drawn.x, dim=-1), drawn.targets))
        memory = Memory(bank, fractions, min(self.neighbours, len(bank)), self.temperature)
        asked = readable(patch_tokens(model, data, validation.images, self.size), annotations.validation)
        (sums, _, guess), panels = self._compare(memory, asked, validation, annotations, data.progress)
        measures = {
            "miou": mean_iou(sums, annotations.presence, mean_iou(guess, annotations.presence).value),
            "pixel_accuracy": pixel_accuracy(sums, pixel_accuracy(guess).value),
        }
        names = self._class_names(data, annotations)
        details: dict[str, Any] = {
            "iou_by_class": iou_by_class(measures["miou"], names, annotations.presence),
            "data": {"train": train.images.images.description, "validation": validation.images.images.description},
            "train_images": len(tokens.rows),
            "memory": len(bank),
            "size": self.size or model.size,
            "grid": list(asked.grid),
        }
        return TaskResult(measures, details, {"panels": panels, "names": names})

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        path = folder / "in_context_segmentation.png"
        names = next(iter(results.values())).artifacts["names"]
        draw_segmentation(path, {model: result.artifacts["panels"] for model, result in results.items()}, names)
        return [Picture(path, "Segmentation of validation images by the nearest annotated patches")]

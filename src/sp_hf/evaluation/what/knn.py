"""Recognition by a weighted vote of the nearest training images (:mod:`sp_hf.evaluation.probes.knn`)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from ...errors import InputError
from ..accuracy import accuracy_measures, check_labels
from ..model import EvaluatedModel
from ..probes.knn import NEIGHBOURS, TEMPERATURE, evaluate_knn
from ..task import Task, TaskResult, option

if TYPE_CHECKING:
    from ..data import EvaluationData


@dataclasses.dataclass(frozen=True)
class KNN(Task):
    """Recognition without training anything."""

    name: ClassVar[str] = "knn"
    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("accuracy",)

    neighbours: int = option(NEIGHBOURS, "k")
    temperature: float = option(TEMPERATURE, "T of the votes' weights")

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.temperature <= 0:
            raise InputError(f"kNN needs k >= 1 and T > 0; got k = {self.neighbours} and T = {self.temperature}")

    def prepare(self, data: EvaluationData) -> None:
        check_labels(data.train.labels, data.validation.labels, data.train.images.label_names)

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        train, validation = data.features(model, data.train), data.features(model, data.validation)
        predicted, labels = evaluate_knn(
            train.cls,
            train.labels,
            validation.cls,
            validation.labels,
            neighbours=self.neighbours,
            temperature=self.temperature,
        )
        known = int((train.labels >= 0).sum())
        return TaskResult(
            accuracy_measures(predicted, labels), {"train_images": known, "classes": len(torch.unique(labels))}
        )

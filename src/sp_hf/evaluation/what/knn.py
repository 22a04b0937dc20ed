"""Recognition by a weighted vote of the nearest training images (:mod:`sp_hf.evaluation.probes.knn`)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ...errors import InputError
from ..accuracy import accuracy_measures, known, majority_accuracy
from ..model import EvaluatedModel
from ..probes.knn import NEIGHBOURS, TEMPERATURE, evaluate_knn
from ..probes.refits import random_halves
from ..task import Task, TaskResult, option

if TYPE_CHECKING:
    from ..data import EvaluationData


@dataclasses.dataclass(frozen=True)
class KNN(Task):
    """Recognition without training anything."""

    name: ClassVar[str] = "knn"
    hub_task: ClassVar[str] = "image-classification"
    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("accuracy",)

    neighbours: int = option(NEIGHBOURS, "k")
    temperature: float = option(TEMPERATURE, "T of the votes' weights")

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.temperature <= 0:
            raise InputError(f"kNN needs k >= 1 and T > 0; got k = {self.neighbours} and T = {self.temperature}")

    def prepare(self, data: EvaluationData) -> None:
        data.check_labels()

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        train, validation = data.features(model, data.train), data.features(model, data.validation)
        of_train, asked = known(train.labels), known(validation.labels)
        features, classes = train.cls[of_train >= 0], of_train[of_train >= 0]

        def classified(rows: Tensor | slice) -> tuple[Tensor, Tensor]:
            sides = (features[rows], classes[rows], validation.cls, asked)
            return evaluate_knn(*sides, neighbours=self.neighbours, temperature=self.temperature, device=model.device)

        predicted, labels = classified(slice(None))
        halves = random_halves(len(classes), data.refits, data.seed, classes)
        details = {
            "train_images": len(classes),
            "classes": len(torch.unique(labels)),
            "majority_accuracy": majority_accuracy(of_train, labels),
        }
        refitted = [classified(half)[0] for half in halves]
        return TaskResult(accuracy_measures(predicted, labels, refitted), details)

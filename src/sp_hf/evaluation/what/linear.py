"""Recognition by the linear probe (:mod:`sp_hf.evaluation.probes.linear`)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

from ..accuracy import accuracy_measures, known, majority_accuracy
from ..model import EvaluatedModel
from ..task import Task, TaskResult

if TYPE_CHECKING:
    from ..data import EvaluationData


@dataclasses.dataclass(frozen=True)
class Linear(Task):
    """Recognition by a linear classifier."""

    name: ClassVar[str] = "linear"
    hub_task: ClassVar[str] = "image-classification"
    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "mean_per_class_accuracy")

    def prepare(self, data: EvaluationData) -> None:
        data.check_labels()

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        probe = data.linear_probe(model)
        validation = data.features(model, data.validation)
        train_labels, of_validation = known(data.features(model, data.train).labels), known(validation.labels)
        labelled = of_validation >= 0
        asked = validation.embedding()[labelled]
        predicted, refitted = probe.predict(asked), [refit.predict(asked) for refit in probe.refits]
        chosen = {
            name: getattr(probe, name)
            for name in ("learning_rate", "weight_decay", "held_out_accuracy", "train_images")
        }
        labels = of_validation[labelled]
        details = chosen | {"majority_accuracy": majority_accuracy(train_labels, labels)}
        return TaskResult(accuracy_measures(predicted, labels, refitted), details)

"""Fine-grained classification: the linear probe, on finer labels or on a data set of such.

The protocol is that of :mod:`.linear`, features and choice of hyperparameters included; what differs is whose labels.
The metric that counts is mean per-class accuracy, as such classes have few and unequally many images (as for
Oxford-IIIT Pets and FGVC-Aircraft in Kornblith et al. 2019, arXiv:1805.08974, appendix A).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

from ..accuracy import LabelError, accuracy_measures, known, majority_accuracy
from ..model import EvaluatedModel
from ..probes.linear import fit_linear
from ..source import DataSource
from ..task import Task, TaskResult, option

if TYPE_CHECKING:
    from ..data import EvaluationData

_PART_SCENES_COLUMN = "fine_label"


@dataclasses.dataclass(frozen=True)
class FineGrained(Task):
    """Recognition of finer classes by a linear classifier."""

    name: ClassVar[str] = "fine-grained"
    hub_task: ClassVar[str] = "image-classification"
    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("mean_per_class_accuracy", "accuracy")

    label_column: str | None = option(None, f"of the finer labels; {_PART_SCENES_COLUMN} of part-scenes")
    dataset: str | None = option(None, "another data set, as for --dataset; its usual splits")

    def source(self, data: EvaluationData) -> DataSource:
        """Where the finer labels are.

        Raises:
            LabelError: neither a column nor a data set is named, and the images are not PartScenes.
        """
        if self.dataset is not None:
            return DataSource(self.dataset, label_column=self.label_column, max_images=data.source.max_images)
        column = self.label_column or (_PART_SCENES_COLUMN if data.source.embedded else None)
        if column is None:
            raise LabelError(
                "fine-grained classification needs finer labels: name their column with fine_grained_label_column, "
                "or another data set with fine_grained_dataset"
            )
        return dataclasses.replace(data.source, label_column=column)

    def prepare(self, data: EvaluationData) -> None:
        data.check_labels(self.source(data))

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        source = self.source(data)
        train, validation = (data.features(model, sample) for sample in data.sides(source))
        train_labels, of_validation = known(train.labels), known(validation.labels)
        probe = fit_linear(train.embedding(), train_labels, seed=data.seed, refits=data.refits, device=model.device)
        labelled = of_validation >= 0
        labels = of_validation[labelled]
        asked = validation.embedding()[labelled]
        predicted, refitted = probe.predict(asked), [refit.predict(asked) for refit in probe.refits]
        details = {
            "label_column": source.label_column,
            "dataset": str(source.dataset),
            "classes": len(probe.classes),
            "train_images": probe.train_images,
            "learning_rate": probe.learning_rate,
            "weight_decay": probe.weight_decay,
            "majority_accuracy": majority_accuracy(train_labels, labels),
        }
        return TaskResult(accuracy_measures(predicted, labels, refitted), details)

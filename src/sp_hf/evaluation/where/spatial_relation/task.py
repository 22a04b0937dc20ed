"""Spatial relation of two objects, four-way: where is one, seen from the other?

Frozen features of whole images are asked for the relation of one named pair of objects, as in SpaRRTa (Kargin et al.
2026, arXiv:2601.11729):

- ``accuracy``: of a probe that attends to patch tokens (:mod:`.attentive_probe`), the headline;
- ``accuracy_pooled``: of the linear probe of class token and mean patch token (:mod:`sp_hf.evaluation.probes.linear`).

**Images.** Of PartScenes, the variant ``jumbled``: the parts strewn at random, so that the relation of two of them
cannot be told from the class. Left, right, above or below is the larger of the distances between the middles of their
boxes; images within 10 degrees of a diagonal are left out. Of another dataset, a column of labels says the relation, as
SpaRRTa's do: ``front``, ``back``, ``left``, ``right``.

Letters: n images, N tokens of an image, D feature size.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....data.part_scenes.objects import PART_ORDER, PARTS
from ....errors import InputError
from ...accuracy import LabelError, accuracy_measures, check_labels, known, majority_accuracy
from ...features import ImageSample
from ...model import EvaluatedModel
from ...part_scenes import annotated_scenes, check_embedded
from ...probes.linear import fit_linear
from ...source import DataSource
from ...task import Task, TaskResult, once_a_task, option
from ...what.dense.dense_task import patch_tokens
from .attentive_probe import fit_attentive
from .relations import RELATIONS, relation_of_parts

if TYPE_CHECKING:
    from ...data import EvaluationData

_PART_BOXES = "part_boxes"
_ONCE = tuple(part for part in PARTS if PART_ORDER.count(part) == 1)


class Side(NamedTuple):
    """Images, what tokens are cached under, and their relations: int64 [n], -1 for those that do not count."""

    images: ImageSample
    relations: Tensor


@dataclasses.dataclass(frozen=True)
class SpatialRelation(Task):
    """Where one object is, seen from another: four-way."""

    name: ClassVar[str] = "spatial-relation"
    kind: ClassVar[Literal["what", "where"]] = "where"
    headline: ClassVar[tuple[str, ...]] = ("accuracy", "accuracy_pooled")

    images: int = option(1000, "images of each side, at most")
    size: int | None = option(None, "side in px onto which images are squashed; default: the model's own size")
    parts: tuple[str, str] = option(("star", "ring"), "of PartScenes: where is the first, seen from the second?")
    dataset: str | None = option(None, "images labelled by their relation, as --dataset, such as SpaRRTa's")
    label_column: str | None = option(None, "of those; default: found by type")
    validation_dataset: str | None = option(None, "their validation side; default: found, or a fifth held out")

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))  # flags come as lists, which cannot be keys
        if self.images < 1 or (self.size is not None and self.size < 1):
            raise InputError(f"spatial-relation: images = {self.images} and size = {self.size}; both start at 1")
        if len(self.parts) != 2 or self.parts[0] == self.parts[1] or not set(self.parts) <= set(_ONCE):
            raise InputError(f"spatial-relation asks for two parts of {', '.join(_ONCE)}; got {' '.join(self.parts)}")

    def prepare(self, data: EvaluationData) -> None:
        sides, names = self._sides(data)
        check_labels(sides[0].relations, sides[1].relations, names)

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        model.squashed(self.size)

    @once_a_task
    def _sides(self, data: EvaluationData) -> tuple[tuple[Side, Side], tuple[str, ...]]:
        """Training and validation side, and the relations' names."""
        if self.dataset is None:
            check_embedded(data, self.name, "images whose label is the relation of two objects")
            return (self._of_scenes(data, "train"), self._of_scenes(data, "validation")), RELATIONS
        source = DataSource(
            self.dataset,
            label_column=self.label_column,
            max_images=data.at_most(self.images),
            validation_dataset=self.validation_dataset,
        )
        train, validation = data.sides(source)
        labels = [side.labels for side in (train, validation)]
        if labels[0] is None or labels[1] is None:
            raise LabelError(f"{self.dataset} has no labels: name their column with --spatial_relation_label_column")
        names = train.images.label_names or [str(i) for i in range(int(labels[0].max()) + 1)]
        return (Side(train, labels[0]), Side(validation, labels[1])), tuple(names)

    def _of_scenes(self, data: EvaluationData, side: str) -> Side:
        images, annotated = annotated_scenes(data, side, "jumbled", self.images, (_PART_BOXES,))
        target, reference = (PARTS.index(part) + 1 for part in self.parts)
        relations = [relation_of_parts(row[_PART_BOXES], target, reference) for row in annotated.rows]
        return Side(images, torch.tensor(relations))

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        (train, validation), names = self._sides(data)
        (values, labels), (asked, truth) = (self._tokens(model, data, side) for side in (train, validation))
        check_labels(labels, truth, names)
        classes, index = torch.unique(labels, return_inverse=True)
        probe = fit_attentive(values, index, len(classes), data.seed)
        predicted = classes[probe.predict(asked)]
        pooled = fit_linear(self._pooled(model, data, train), labels, seed=data.seed, refits=data.refits)
        queries = self._pooled(model, data, validation)
        refitted = [refit.predict(queries) for refit in pooled.refits]
        of_pooled = accuracy_measures(pooled.predict(queries), truth, refitted)
        measures = accuracy_measures(predicted, truth) | {"accuracy_pooled": of_pooled["accuracy"]}
        details: dict[str, Any] = {
            "relations": {names[int(c)]: int((truth == c).sum()) for c in classes},
            "accuracy_by_relation": {names[int(c)]: _share(predicted, truth, int(c)) for c in classes},
            "train_images": len(labels),
            "majority_accuracy": majority_accuracy(labels, truth),
            "learning_rate": probe.learning_rate,
            "epochs": probe.epochs,
            "size": self.size or model.size,
            "data": {"train": train.images.images.description, "validation": validation.images.images.description},
        }
        return TaskResult(measures, details)

    def _tokens(self, model: EvaluatedModel, data: EvaluationData, side: Side) -> tuple[np.ndarray, Tensor]:
        """Patch tokens [n, N, D] of the images that count, and their relations [n]."""
        tokens = patch_tokens(model, data, side.images, self.size)
        kept = _counted(tokens.rows, side)
        return tokens.values[np.flatnonzero(kept.numpy())], side.relations[torch.from_numpy(tokens.rows)][kept]

    def _pooled(self, model: EvaluatedModel, data: EvaluationData, side: Side) -> Tensor:
        """Class token and mean patch token [n, 2 D] of the same images, squashed as those."""
        features = data.features(model.squashed(self.size), side.images)
        return features.embedding()[_counted(features.rows.numpy(), side)]


def _counted(rows: np.ndarray, side: Side) -> Tensor:
    """bool [images that could be read]."""
    return known(side.relations)[torch.from_numpy(np.asarray(rows))] >= 0


def _share(predicted: Tensor, truth: Tensor, relation: int) -> float | None:
    asked = truth == relation
    return float((predicted[asked] == relation).double().mean()) if asked.any() else None

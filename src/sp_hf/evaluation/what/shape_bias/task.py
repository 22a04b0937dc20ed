"""Texture or shape: what a model goes by where the two disagree.

Geirhos et al. 2019, "ImageNet-trained CNNs are biased towards texture", arXiv:1811.12231, section 2 and appendix A.
Cue-conflict images show the shape of one class in the texture of another. The linear probe decides among the K conflict
classes that have a counterpart in it; a class's probability is the mean over the probe's classes that stand for it:

    p(k) = mean over probe classes c of k of softmax(logits)(c)         decision = argmax over k of p(k)
    shape fraction = decisions for the shape / (decisions for the shape + decisions for the texture)
    coverage       = (decisions for the shape + decisions for the texture) / images

Images whose two classes agree have no conflict and are left out, as in the paper; so are images of a class without a
counterpart (``details`` names those classes). With PartScenes, K = 10: a probe is trained on the variant
class-textures, in which either cue tells the class, and asked about the variant cue-conflict.

Deviation: the paper's classifiers are trained end to end on ImageNet; here a linear probe is, on frozen features.

Letters: n images, C classes of the probe, K conflict classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from datasets import ClassLabel
from torch import Tensor

from ....data.canvas import UnreadableImage, make_canvas
from ....errors import InputError
from ...accuracy import check_labels, known
from ...features import ImageSample
from ...measure import Measure
from ...model import EvaluatedModel
from ...part_scenes import variant_of
from ...probes.linear import LinearProbe, fit_linear
from ...source import DataSource
from ...task import Picture, Task, TaskResult, once_a_task, option
from ..label_mapping import MappingError, class_names, map_names, read_mapping
from .classes import TABLES
from .picture import draw_fractions

if TYPE_CHECKING:
    from ...data import EvaluationData

_COLUMNS = ("shape", "texture")
_THUMBNAIL = 64


class Conflict(NamedTuple):
    """Cue-conflict images, and which of the probe's classes stand for theirs.

    Args:
        sample: all of the images.
        names: of the K classes.
        shape, texture: int64 [n] of 0 .. K-1.
        counterparts: int64 [C], the conflict class that each of the probe's classes stands for, -1 for none.
        mapping: where the counterparts are from, in words.
    """

    sample: ImageSample
    names: list[str]
    shape: Tensor
    texture: Tensor
    counterparts: Tensor
    mapping: str

    def asked(self) -> Tensor:
        """Images that have a conflict between two classes with counterparts: bool [n]."""
        known = self.counterparts[self.counterparts >= 0]
        return (self.shape != self.texture) & torch.isin(self.shape, known) & torch.isin(self.texture, known)


def conflict_decisions(logits: Tensor, counterparts: Tensor, classes: int) -> Tensor:
    """Decisions among the conflict classes that have a counterpart.

    Args:
        logits: [n, C] of the probe.
        counterparts: int64 [C], -1 for none.
        classes: K.

    Returns:
        int64 [n] of 0 .. K-1.
    """
    probabilities = logits.double().softmax(-1)
    stands = torch.zeros(len(counterparts), classes, dtype=torch.float64)
    mapped = counterparts >= 0
    stands[mapped, counterparts[mapped]] = 1
    means = probabilities @ stands / stands.sum(0).clamp(min=1)  # [n, K]
    return means.masked_fill(stands.sum(0) == 0, -1).argmax(-1)


def shape_bias_measures(decisions: Tensor, shape: Tensor, texture: Tensor, chance: float) -> dict[str, Measure]:
    """The metrics of decisions on images with a conflict, int64 [n] each; without ``shape_fraction`` where not one
    decision is for either cue. ``chance`` is that of one class."""
    by_shape, by_texture = (decisions == shape).double(), (decisions == texture).double()
    either = by_shape + by_texture
    measures = {
        "shape_fraction": Measure(by_shape, either, percent=True, chance=0.5) if either.any() else None,
        "coverage": Measure.of(either, percent=True, chance=2 * chance),
        "shape_accuracy": Measure.of(by_shape, percent=True, chance=chance),
        "texture_accuracy": Measure.of(by_texture, percent=True, chance=chance),
    }
    return {name: measure for name, measure in measures.items() if measure is not None}


@dataclasses.dataclass(frozen=True)
class ShapeBias(Task):
    """What the model goes by where shape and texture disagree."""

    name: ClassVar[str] = "shape-bias"
    hub_task: ClassVar[str] = "image-classification"
    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("shape_fraction", "coverage")

    dataset: str | None = option(
        None, "cue-conflict images with columns shape and texture, as --dataset; default with part-scenes: its own"
    )
    split: str | None = option(None, "their split; default: validation, val, test, or the only one")
    mapping: str | None = option(
        None, "JSON file from the probe's class names to theirs; default: equal names, or a table of this package's"
    )
    images: int = option(1280, "cue-conflict images, at most")
    train_images: int = option(2000, "part-scenes only: images that its probe is trained on, at most")

    def __post_init__(self) -> None:
        for name in ("images", "train_images"):
            if getattr(self, name) < 2:
                raise InputError(f"shape bias needs two images or more; got {name} = {getattr(self, name)}")

    def prepare(self, data: EvaluationData) -> None:
        if self.dataset is None and not data.source.embedded:
            raise InputError(
                "shape bias needs cue-conflict images: name a dataset with columns shape and texture with"
                " --shape_bias_dataset"
            )
        check_labels(self._train(data).labels, self._train(data).labels, self._train(data).images.label_names)
        conflict = self._conflict(data)
        if not conflict.asked().any():
            raise InputError(
                f"{conflict.sample.images.description}: in not one of {len(conflict.shape)} images do shape and texture"
                " disagree between two classes that the probe knows; give another mapping, or more images"
            )

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        conflict, probe = self._conflict(data), self._probe(model, data)
        features = data.features(model, conflict.sample)
        decisions = conflict_decisions(probe.logits(features.embedding()), conflict.counterparts, len(conflict.names))
        asked = conflict.asked()[features.rows]
        shape, texture = conflict.shape[features.rows][asked], conflict.texture[features.rows][asked]
        decisions = decisions[asked]
        known = torch.unique(conflict.counterparts[conflict.counterparts >= 0])
        measures = shape_bias_measures(decisions, shape, texture, 1 / len(known))
        left_out = [name for k, name in enumerate(conflict.names) if k not in known.tolist()]
        details = {
            "per_class": by_class(decisions, shape, texture, conflict.names),
            "mapping": conflict.mapping,
            "counterparts": self._pairs(conflict, data),
            "classes_without_counterpart": left_out,
            "images_left_out": len(features.rows) - int(asked.sum()),
            "probe_images": probe.train_images,
            "probe_held_out_accuracy": probe.held_out_accuracy,
        }
        artifacts = {"control": model.role != "model", "thumbnails": self._thumbnails(conflict)}
        return TaskResult(measures, details, artifacts)

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        fractions = {
            name: {label: row["shape_fraction"] for label, row in result.details["per_class"].items()}
            for name, result in results.items()
        }
        averages = {
            name: r.measures["shape_fraction"].value for name, r in results.items() if "shape_fraction" in r.measures
        }
        path = folder / "shape_bias.png"
        controls = sum(result.artifacts["control"] for result in results.values())
        thumbnails = next(iter(results.values())).artifacts["thumbnails"]
        draw_fractions(path, fractions, averages, thumbnails, controls)
        caption = (
            "Fraction of shape decisions among those for either cue, by the class of the shape; lines: over all images."
            " Pictures: a conflict of each class's shape with some other texture."
        )
        return [Picture(path, caption)]

    # What is compared with what ---------------------------------------------------------------------------------------
    def _train(self, data: EvaluationData) -> ImageSample:
        """The images that the probe is trained on."""
        if self.dataset is not None:
            return data.train
        return data.sample(variant_of(data.source, "train", "class-textures", self.train_images, "label"), "train")

    def _probe(self, model: EvaluatedModel, data: EvaluationData) -> LinearProbe:
        if self.dataset is not None:
            return data.linear_probe(model)
        train = data.features(model, self._train(data))
        return fit_linear(train.embedding(), known(train.labels), seed=data.seed)

    @once_a_task
    def _conflict(self, data: EvaluationData) -> Conflict:
        if self.dataset is None:
            source, side = variant_of(data.source, "validation", "cue-conflict", self.images), "train"
        else:
            most = data.at_most(self.images)
            source = DataSource(validation_dataset=self.dataset, validation_dataset_split=self.split, max_images=most)
            side = "validation"
        sample = data.sample(source, side, _COLUMNS)
        (names, shape), (names_of_texture, texture) = (_labels(sample, column) for column in _COLUMNS)
        if names != names_of_texture:
            raise InputError(
                f"{sample.images.description}: shape and texture are of different classes"
                f" ({', '.join(names)} and {', '.join(names_of_texture)}); they must be the same"
            )
        counterparts, mapping = self._counterparts(self._train(data), names)
        return Conflict(sample, names, shape, texture, counterparts, mapping)

    def _counterparts(self, train: ImageSample, names: Sequence[str]) -> tuple[Tensor, str]:
        labels = known(train.labels)
        ours = class_names(torch.unique(labels[labels >= 0]), train.images.label_names)
        if self.mapping is not None:
            return map_names(ours, names, read_mapping(self.mapping), "the probe's classes"), self.mapping
        for title, table in TABLES.items():
            if set(table) <= set(ours) and set(table.values()) <= set(names):
                return map_names(ours, names, table), f"table of {title}"
        counterparts = map_names(ours, names, what="the probe's classes")
        if len(torch.unique(counterparts[counterparts >= 0])) < 2:
            raise MappingError(
                "shape bias needs two classes or more that the probe and the cue-conflict images share; name the"
                " counterparts in a JSON file with --shape_bias_mapping"
            )
        return counterparts, "equal names"

    def _pairs(self, conflict: Conflict, data: EvaluationData) -> dict[str, list[str]]:
        """The probe's classes that stand for each conflict class."""
        train = self._train(data)
        labels = known(train.labels)
        ours = class_names(torch.unique(labels[labels >= 0]), train.images.label_names)
        pairs: dict[str, list[str]] = {name: [] for name in conflict.names}
        for name, k in zip(ours, conflict.counterparts.tolist(), strict=True):
            if k >= 0:
                pairs[conflict.names[k]].append(name)
        return pairs

    def _thumbnails(self, conflict: Conflict) -> dict[str, np.ndarray]:
        """The first readable image of each shape, uint8 [64, 64, 3], by the class's name."""
        thumbnails: dict[str, np.ndarray] = {}
        for index in conflict.asked().nonzero()[:, 0].tolist():
            name = conflict.names[int(conflict.shape[index])]
            if name in thumbnails:
                continue
            try:
                canvas, _ = make_canvas(conflict.sample.rows[index][conflict.sample.images.image_column], _THUMBNAIL)
            except UnreadableImage:
                continue  # features() counts and reports it
            thumbnails[name] = np.asarray(canvas).transpose(1, 2, 0)
        return thumbnails


def by_class(decisions: Tensor, shape: Tensor, texture: Tensor, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Shape fraction (``None`` without any decision for either cue), coverage and images by the class of the shape."""
    rows = {}
    for k in torch.unique(shape).tolist():
        chosen = shape == k
        by_shape = int((decisions == shape)[chosen].sum())
        by_texture = int((decisions == texture)[chosen].sum())
        either, images = by_shape + by_texture, int(chosen.sum())
        rows[names[k]] = {
            "shape_fraction": by_shape / either if either else None,
            "coverage": either / images,
            "images": images,
        }
    return rows


def _labels(sample: ImageSample, column: str) -> tuple[list[str], Tensor]:
    """The names of a column's classes, and its labels int64 [n]."""
    feature = sample.images.dataset.features[column]
    if not isinstance(feature, ClassLabel):
        raise InputError(
            f"{sample.images.description}: column {column} is no ClassLabel (see datasets' class_encode_column)"
        )
    if isinstance(sample.rows, list):
        return feature.names, torch.tensor([row[column] for row in sample.rows])
    return feature.names, torch.tensor(sample.rows.select_columns([column])[column])

"""The base of detection and instance segmentation: what is common to boxes and masks.

- **Geometry.** The whole image is squashed onto a square, as in segmentation; boxes are fractions of the image, and
  average precision is computed in the image's own pixels.
- **Encoder.** Frozen: the final patch tokens, those of segmentation, are computed once; only the detector is trained.
  Or fine-tuned: a copy of it is trained with the detector. Nothing is mirrored, cropped or jittered in training.
- **Detector.** One of transformers' own, small, on a pyramid made of the one map (:mod:`.pyramid`, :mod:`.heads`). Its
  first weights are the same for all models of one feature size.

Letters: n images, b images of a batch, N tokens of an image, D feature size, C classes.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ....data.annotations import upright_size
from ....data.columns import ColumnError, describe_columns
from ....data.part_scenes.objects import PARTS
from ....errors import InputError
from ...features import ImageSample
from ...model import EvaluatedModel
from ...source import DataSource
from ...task import Picture, Task, TaskResult, option
from ..dense.dense_task import patch_tokens
from ..dense.pictures import shown
from ..finetune.task import own_random_state
from .average_precision import AveragePrecision
from .coco import match, require_pycocotools
from .heads import Answers
from .objects import ImageObjects, category_names, check_box_format, read_objects, read_parts
from .pictures import Seen, draw_objects
from .pyramid import EncodedMap, as_map
from .training import Recipe, train

if TYPE_CHECKING:
    from ...data import EvaluationData

_PARTS = ("part_boxes", "segmentation")
_ASKED = 32  # images at a time
ENCODERS = ("frozen", "fine-tuned")


class Side(NamedTuple):
    """One side: images without their objects, which features are cached under, the same rows with them, and names of
    the classes where the column's type tells them."""

    images: ImageSample
    annotated: ImageSample
    names: tuple[str, ...] | None


class Inputs(NamedTuple):
    """What detectors are given of images that could be read: float16 tokens [n, N, D] or uint8 pixels [n, 3, S, S], and
    int64 [n], the rows of the sample they are."""

    values: Any
    rows: np.ndarray
    grid: tuple[int, int] | None

    def of(self, index: np.ndarray, device: torch.device) -> Tensor:
        """float32 [b, D, h, w] or [b, 3, S, S] in [0, 1]."""
        if self.grid is None:
            return self.values[torch.from_numpy(index)].to(device).float() / 255
        tokens = torch.from_numpy(np.asarray(self.values[index], np.float32)).to(device)
        return as_map(tokens, self.grid)


@dataclasses.dataclass(frozen=True)
class ObjectTask(Task):
    """Base of tasks that find objects."""

    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("ap", "ap_50")
    shapes: ClassVar[Literal["bbox", "segm"]]

    encoder: str = option("frozen", "frozen or fine-tuned")
    images: int = option(300, "images of each side, at most")
    size: int | None = option(None, "side in px onto which images are squashed; default: the model's own size")
    epochs: int = option(20, "passes over the training images")
    batch_size: int = option(16, "of the detector's training")
    learning_rate: float = option(5e-4, "of the detector")
    encoder_learning_rate: float = option(5e-5, "of a fine-tuned encoder")
    dataset: str | None = option(None, "images with objects, as --dataset; default: --dataset")
    config: str | None = option(None, "configuration of a Hub dataset")
    split: str | None = option(None, "its training split; default: train")
    validation_dataset: str | None = option(None, "validation side; default: the same dataset")
    validation_split: str | None = option(None, "its split; default: validation, val or test")
    column: str = option("objects", "column of {bbox, category}; PartScenes has parts in its place")
    box_format: str = option("xywh", "of bbox, in px: xywh or xyxy")

    def __post_init__(self) -> None:
        if min(self.images, self.epochs, self.batch_size) < 1 or (self.size is not None and self.size < 1):
            raise InputError(f"{self.name}: images, epochs, batch_size and size start at 1")
        if min(self.learning_rate, self.encoder_learning_rate) <= 0:
            raise InputError(f"{self.name}: learning rates must be above 0")
        if self.encoder not in ENCODERS:
            raise InputError(f"{self.name}: encoder is {self.encoder!r}; it must be {' or '.join(ENCODERS)}")
        check_box_format(self.box_format)

    def detector(self, source: nn.Module, features: int, classes: int, grid: tuple[int, int]) -> PreTrainedModel:
        """A new one, on what makes a map of ``features`` channels."""
        raise NotImplementedError

    def targets(self, objects: list[ImageObjects], side: int, device: torch.device) -> dict[str, Any]:
        """Its arguments for training."""
        raise NotImplementedError

    def answers(self, outputs: Any, sizes: list[tuple[int, int]]) -> list[Answers]:
        """What its outputs say of each image of this size (H, W)."""
        raise NotImplementedError

    def prepare(self, data: EvaluationData) -> None:
        require_pycocotools()
        for side in ("train", "validation"):
            opened = self._open(data, side)
            self._objects(opened, [0])

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        model.squashed(self.size)

    def _source(self, data: EvaluationData) -> DataSource:
        most = data.at_most(self.images)
        fields = {
            "dataset_split": self.split,
            "dataset_config": self.config,
            "validation_dataset": self.validation_dataset,
            "validation_dataset_split": self.validation_split,
        }
        given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        base = data.source if self.dataset is None else DataSource(self.dataset)
        return dataclasses.replace(base, max_images=most, **given)

    def _open(self, data: EvaluationData, side: str) -> Side:
        source = self._source(data)
        for columns in ((self.column,), _PARTS):
            try:
                annotated = data.sample(source, side, columns)
            except ColumnError as error:
                reason = error
                continue
            features = annotated.images.dataset.features
            names = PARTS if columns == _PARTS else category_names(features[self.column])
            return Side(data.sample(source, side), annotated, None if names is None else tuple(names))
        raise InputError(
            f"{self.name} needs a column of objects, {{bbox, category}}, in {source.dataset}: name it with"
            f" --{self.name.replace('-', '_')}_column, or images that have one with"
            f" --{self.name.replace('-', '_')}_dataset. ({reason})"
        ) from reason

    def _objects(self, side: Side, rows: Any) -> list[ImageObjects]:
        """Of these rows of a side; raises DataError or ValueError where they cannot be."""
        objects = []
        for row in rows:
            cells = side.annotated.rows[int(row)]
            if "part_boxes" in cells:
                objects.append(read_parts(cells["part_boxes"], cells["segmentation"]))
                continue
            width, height = upright_size(cells[side.annotated.images.image_column])
            with_masks = self.shapes == "segm"
            objects.append(read_objects(cells[self.column], (height, width), self.box_format, with_masks=with_masks))
        return objects

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        train_side, validation = (self._open(data, side) for side in ("train", "validation"))
        seen, asked = (self._inputs(model, data, side.images) for side in (train_side, validation))
        learnt, truth = self._objects(train_side, seen.rows), self._objects(validation, asked.rows)
        names = train_side.names or tuple(str(c) for c in range(_classes(learnt, truth)))
        _check_classes(train_side, validation, learnt, truth, len(names), self.name)
        detector, facts = self._learn(model, data, seen, learnt, len(names))
        answers = self._ask(detector, asked, truth, model.device)
        matches = match(answers, truth, len(names), self.shapes)
        measures = {
            "ap": AveragePrecision.of_matches(matches),
            "ap_50": AveragePrecision.of_matches(matches, slice(0, 1)),
            "ap_75": AveragePrecision.of_matches(matches, slice(5, 6)),
        }
        sides = {"train": train_side, "validation": validation}
        details: dict[str, Any] = {
            "ap_by_class": dict(zip(names, measures["ap"].groups(), strict=True)),
            "objects": {"train": sum(map(len, learnt)), "validation": sum(map(len, truth))},
            **facts,
            "data": {name: side.images.images.description for name, side in sides.items()},
        }
        drawn = [Seen(int(asked.rows[i]), truth[i], answers[i]) for i in shown(len(truth))]
        return TaskResult(measures, details, {"seen": drawn, "images": validation.images, "names": names})

    def _learn(
        self, model: EvaluatedModel, data: EvaluationData, seen: Inputs, objects: list[ImageObjects], classes: int
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        """A detector, trained on the images that have objects, and facts of it."""
        side = model.squashed(self.size).size
        used = np.array([i for i, one in enumerate(objects) if (~one.crowd).any()])
        recipe = Recipe(self.epochs, self.batch_size, self.learning_rate, self.encoder_learning_rate, data.seed)
        steps = recipe.steps(len(used))

        def batch_of(index: np.ndarray) -> dict[str, Any]:
            chosen = used[index]
            targets = self.targets([objects[i] for i in chosen], side, model.device)
            return {"pixel_values": seen.of(chosen, model.device), **targets}

        bar = tqdm(total=steps, desc=f"{model.name}: {self.name}", disable=not data.progress, leave=False)
        with own_random_state(), bar:
            torch.manual_seed(data.seed)
            detector, beneath = self._build(model, side, classes)
            loss = train(detector, beneath, batch_of, len(used), recipe, bar)
        facts = {
            "train_images": len(used),
            "detector": type(detector).__name__,
            "steps": steps,
            "loss_of_last_epoch": loss,
            "size": side,
        }
        return detector, facts

    def _inputs(self, model: EvaluatedModel, data: EvaluationData, images: ImageSample) -> Inputs:
        if self.encoder == "frozen":
            tokens = patch_tokens(model, data, images, self.size)
            return Inputs(tokens.values, tokens.rows, tokens.grid)
        pixels = data.pixels(model.squashed(self.size), images)
        return Inputs(pixels.pixels, pixels.rows.numpy(), None)

    def _build(self, model: EvaluatedModel, side: int, classes: int) -> tuple[PreTrainedModel, nn.Module | None]:
        """The detector on the model's device, and the copy of the encoder in it, if it is trained."""
        grid = model.encoder.patches_of(side)
        with torch.inference_mode():
            features = model.encoder(torch.zeros(1, 3, side, side, device=model.device)).patches.shape[-1]
        if self.encoder == "frozen":
            return self.detector(nn.Identity(), features, classes, grid).to(model.device), None
        encoder = copy.deepcopy(model.encoder).requires_grad_(True)
        return self.detector(EncodedMap(encoder), features, classes, grid).to(model.device), encoder

    @torch.inference_mode()
    def _ask(
        self, detector: PreTrainedModel, inputs: Inputs, truth: list[ImageObjects], device: torch.device
    ) -> list[Answers]:
        detector.eval()
        answers: list[Answers] = []
        for start in range(0, len(truth), _ASKED):
            index = np.arange(start, min(start + _ASKED, len(truth)))
            outputs = detector(pixel_values=inputs.of(index, device))
            answers += self.answers(outputs, [truth[i].size for i in index])
        return answers

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        path = folder / f"{self.name}.png"
        first = next(iter(results.values())).artifacts
        draw_objects(path, {name: r.artifacts["seen"] for name, r in results.items()}, first["images"], first["names"])
        return [Picture(path, f"{self.name}: objects of validation images, and the answers scored above 0.3.")]


def _classes(learnt: list[ImageObjects], truth: list[ImageObjects]) -> int:
    return 1 + max((int(one.labels.max()) for one in (*learnt, *truth) if len(one)), default=0)


def _check_classes(
    train_side: Side, validation: Side, learnt: list[ImageObjects], truth: list[ImageObjects], classes: int, task: str
) -> None:
    """Raise ValueError unless both sides have objects of the same classes."""
    for side, objects in ((train_side, learnt), (validation, truth)):
        described = side.images.images.description
        if not any((~one.crowd).any() for one in objects):
            raise InputError(f"{task}: not one object in {described}")
        labels = np.concatenate([one.labels for one in objects])
        if labels.min() < 0 or labels.max() >= classes:
            raise InputError(
                f"{task}: categories of {described} are {labels.min()} to {labels.max()}, not 0 to {classes - 1}"
            )
    if train_side.names != validation.names:
        raise InputError(
            f"{task}: the two sides name other classes, {train_side.names} and {validation.names}:"
            f" {describe_columns(datasets.Features(train_side.annotated.images.dataset.features))}"
        )

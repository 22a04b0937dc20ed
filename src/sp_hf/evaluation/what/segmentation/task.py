"""Semantic segmentation by a linear classifier of patch tokens, as in DINOv2's linear evaluation (Oquab et al. 2023,
arXiv:2304.07193, section 7.4): a low-resolution map of logits, upsampled bilinearly to the annotation.

Images, tokens and the sample of the fit are those of :mod:`sp_hf.evaluation.what.dense.dense_task`; the classifier
and its two decisions, plain and adjusted to classes that differ in frequency, are those of
:mod:`sp_hf.evaluation.what.segmentation.head`; the metrics are those of :mod:`sp_hf.evaluation.what.dense.metrics`:

    miou, pixel_accuracy     of the plain decision
    miou_adjusted            of the adjusted one, which tells weak models apart, and which pictures show

Pixels are compared at the annotation's own resolution; void ones do not count, whatever is predicted there. Classes
are those of the training annotations. Chance is what the commonest class of the training tokens gets everywhere.

Deviations from DINOv2: whole squashed images without augmentation in place of crops, targets by area in place of a
loss on upsampled logits, a sweep in place of fixed hyperparameters.

Letters: n images, C classes, H, W pixels, h, w rows and columns of tokens.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ....data.annotations import AnnotationError, voc_colours
from ....data.datasets import is_embedded
from ....data.part_scenes.objects import PARTS
from ....errors import InputError
from ...measure import Measure
from ...model import EvaluatedModel
from ...task import Picture, TaskResult, once_a_task, option
from ..dense.dense_task import DenseSide, DenseTask, Tokens, check_count, patch_tokens, readable, training_tokens
from ..dense.metrics import intersection_and_union, mean_iou, pixel_accuracy
from ..dense.patch_targets import class_fractions, upsampled_argmax
from ..dense.pictures import Panel, draw_class_iou, draw_segmentation, shown, thumbnail
from .head import fit_segmentation

if TYPE_CHECKING:
    from ...data import EvaluationData

VOID = 255
_MAX_CLASSES = 1000


class Classifier(Protocol):
    """What decides the classes of pixels from patch tokens."""

    @property
    def prior(self) -> Tensor:
        """[C], how much of the training tokens' area each class takes."""

    def logits(self, tokens: Tensor) -> Tensor:
        """[N, D] to [N, C]."""

    def adjustment(self) -> Tensor:
        """[C], what the adjusted decision adds."""


class Annotations(NamedTuple):
    """What the annotations of both sides hold, void left out.

    Args:
        classes: int64 [C], ids of the training annotations, ascending.
        presence: bool [C], those that the validation annotations hold.
        train, validation: rows that can be read.
    """

    classes: np.ndarray
    presence: np.ndarray
    train: list[int]
    validation: list[int]

    def of(self, side: DenseSide, row: int) -> np.ndarray:
        """int64 [H, W] in 0 .. C-1, -1 for void."""
        ids = side.annotation(row)
        classes = np.searchsorted(self.classes, ids).clip(max=len(self.classes) - 1)
        return np.where(self.classes[classes] == ids, classes, -1)


@dataclasses.dataclass(frozen=True)
class Segmentation(DenseTask):
    """Which class each pixel belongs to."""

    name: ClassVar[str] = "segmentation"
    hub_task: ClassVar[str] = "image-segmentation"
    headline: ClassVar[tuple[str, ...]] = ("miou_adjusted", "miou", "pixel_accuracy")
    target_columns: ClassVar[tuple[str, ...]] = ("segmentation", "annotation", "segmentation_mask", "mask", "label")

    void: tuple[int, ...] = option((VOID,), "ids of pixels that do not count")
    colours: str | None = option(None, "voc: annotations that are images of colours have those of PASCAL VOC")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.colours not in (None, "voc"):
            raise InputError(f"{self.name}: colours is {self.colours!r}; it must be voc, or left out")
        object.__setattr__(self, "void", tuple(self.void))  # flags come as lists, which cannot be keys

    def colours_of_ids(self) -> np.ndarray | None:
        return voc_colours() if self.colours else None

    def prepare(self, data: EvaluationData) -> None:
        """Every annotation is read once here, so that missing classes are named before any feature is computed."""
        self._annotations(data)

    @once_a_task
    def _annotations(self, data: EvaluationData) -> Annotations:
        train, validation = self.sides(data)
        known, asked = (side.scan(self._ids, data.progress) for side in (train, validation))
        check_count(known, train, self.name)
        classes, validation_classes = (
            sorted(Counter(i for ids in ids_by_image.values() for i in ids)) for ids_by_image in (known, asked)
        )
        self._check_classes(classes, validation_classes)
        return Annotations(np.array(classes), np.isin(classes, validation_classes), list(known), list(asked))

    def _ids(self, annotation: np.ndarray) -> list[int]:
        if annotation.dtype.kind == "f":
            raise AnnotationError(
                "annotations of floats hold no class ids: name another column with --segmentation_target_column"
            )
        ids = np.setdiff1d(annotation, self.void)
        if len(ids) and ids[0] < 0:
            raise AnnotationError(f"class ids start at 0; an annotation holds {ids[0]}: add it to --segmentation_void")
        return ids.tolist()

    def _check_classes(self, classes: Sequence[int], asked: Sequence[int]) -> None:
        if len(classes) < 2:
            raise InputError(f"segmentation needs two classes or more; the training annotations hold {list(classes)}")
        if len(classes) > _MAX_CLASSES:
            raise InputError(
                f"the training annotations hold {len(classes)} ids, more than {_MAX_CLASSES}: instances or colours, not"
                " classes? Name another column with --segmentation_target_column"
            )
        if not asked:
            raise InputError(f"every pixel of the validation annotations is void ({', '.join(map(str, self.void))})")
        missing = sorted(set(asked) - set(classes))
        if missing:
            raise InputError(
                f"no training image has these classes of the validation annotations: {_few(missing)}; take more images"
                " (--segmentation_images), or leave them out with --segmentation_void"
            )

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        annotations, (train, validation) = self._annotations(data), self.sides(data)
        tokens = readable(patch_tokens(model, data, train.images, self.size), annotations.train)

        def target(row: int) -> tuple[np.ndarray, np.ndarray]:
            fractions = class_fractions(annotations.of(train, row), tokens.grid, len(annotations.classes))
            return fractions, fractions.sum(1)

        head = fit_segmentation(training_tokens(tokens, target, data.seed), data.seed)
        asked = readable(patch_tokens(model, data, validation.images, self.size), annotations.validation)
        (plain, adjusted, guess), panels = self._compare(head, asked, validation, annotations, data.progress)
        floor = mean_iou(guess, annotations.presence).value
        measures = {
            "miou": mean_iou(plain, annotations.presence, floor),
            "miou_adjusted": mean_iou(adjusted, annotations.presence, floor),
            "pixel_accuracy": pixel_accuracy(plain, pixel_accuracy(guess).value),
        }
        names = self._class_names(data, annotations)
        details: dict[str, Any] = {
            "iou_by_class": iou_by_class(measures["miou"], names, annotations.presence),
            "iou_adjusted_by_class": iou_by_class(measures["miou_adjusted"], names, annotations.presence),
            "data": {"train": train.images.images.description, "validation": validation.images.images.description},
            "train_images": len(tokens.rows),
            "train_tokens": len(head.training.x),
            "size": self.size or model.size,
            "grid": list(asked.grid),
        }
        details |= {name: getattr(head, name) for name in ("learning_rate", "weight_decay", "tau")}
        return TaskResult(measures, details, {"panels": panels, "names": names})

    def _compare(
        self, head: Classifier, tokens: Tokens, side: DenseSide, annotations: Annotations, progress: bool
    ) -> tuple[np.ndarray, list[Panel]]:
        """Intersections and unions [3, 2, n, C]: plain, adjusted, the commonest class everywhere; what is drawn."""
        classes, panels = len(annotations.classes), []
        offsets = torch.stack([torch.zeros(classes), head.adjustment()])
        commonest = int(head.prior.argmax())
        sums = np.zeros((3, 2, len(tokens.rows), classes))
        rows = tqdm(tokens.rows.tolist(), desc=f"{self.name}", unit="image", disable=not progress, leave=False)
        for index, row in enumerate(rows):
            truth = annotations.of(side, row)
            logits = head.logits(tokens.of(index)).T.unflatten(1, tokens.grid)  # [C, h, w]
            predicted = upsampled_argmax(logits, truth.shape, offsets)  # [2, H, W]
            for decision, classes_of in zip(sums, (*predicted, np.full_like(truth, commonest)), strict=True):
                decision[:, index] = intersection_and_union(classes_of, truth, classes)
            if index in shown(len(tokens.rows)):
                panels.append(Panel(thumbnail(side.images, row), truth.shape, predicted[1], truth))
        return sums, panels

    def _class_names(self, data: EvaluationData, annotations: Annotations) -> list[str]:
        """PartScenes' parts; otherwise ids."""
        embedded = is_embedded(self.dataset or data.source.dataset)
        names = dict(enumerate(("background", *PARTS))) if embedded else {}
        return [names.get(known, str(known)) for known in annotations.classes.tolist()]

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        sheet, bars = folder / "segmentation.png", folder / "segmentation_iou.png"
        names = next(iter(results.values())).artifacts["names"]
        draw_segmentation(sheet, {model: result.artifacts["panels"] for model, result in results.items()}, names)
        draw_class_iou(bars, {model: result.details["iou_adjusted_by_class"] for model, result in results.items()})
        return [
            Picture(sheet, "Segmentation of validation images by a linear classifier of patch tokens (adjusted)"),
            Picture(bars, "Intersection over union by class (adjusted)"),
        ]


def iou_by_class(measure: Measure, names: Sequence[str], presence: np.ndarray) -> dict[str, float | None]:
    """IoU of each class, ``None`` for those that the validation annotations lack."""
    values = iter(measure.groups())
    return {name: next(values) if known else None for name, known in zip(names, presence, strict=True)}


def _few(ids: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, ids[:most])) + (" ..." if len(ids) > most else "")

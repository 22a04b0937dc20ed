"""Semantic segmentation by a linear classifier of patch tokens, as in DINOv2's linear evaluation (Oquab et al. 2023,
arXiv:2304.07193, section 7.4): a low-resolution map of logits, upsampled bilinearly to the annotation.

Images, tokens and the sample of the fit are those of :mod:`sp_hf.evaluation.what.dense`, figures those of
:mod:`sp_hf.evaluation.what.dense_metrics`. The head is a softmax regression on standardised tokens
(:mod:`sp_hf.evaluation.what.softmax_regression`): a token's target is the fraction of its area that each class takes,
and its weight the fraction that is not void. 1500 steps of 1024 tokens; step size and weight decay are those with the
best mIoU over the tokens of the held-out images, areas counted by fraction.

Pixels are compared at the annotation's own resolution; void ones do not count, whatever is predicted there. Classes
are those of the training annotations. Chance is what the commonest class of the training tokens gets everywhere.

Deviations from DINOv2: whole squashed images without augmentation in place of crops, targets by area in place of a
loss on upsampled logits, a sweep in place of fixed hyperparameters.

Letters: n images, N tokens of an image, D feature size, t tokens of the fit, C classes, H, W pixels, h, w rows and
columns of tokens.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ...data.annotations import AnnotationError
from ...data.datasets import EMBEDDED
from ...data.part_scenes_objects import PARTS
from ..model import EvaluatedModel
from ..task import Picture, TaskResult, option
from .dense import DenseSide, DenseTask, Tokens, TrainingTokens, check_count, patch_tokens, readable, training_tokens
from .dense_metrics import intersection_and_union, segmentation_measures
from .dense_pictures import Panel, draw_class_iou, draw_segmentation, shown, thumbnail
from .patch_targets import class_fractions, upsampled_argmax
from .softmax_regression import shuffled_batches, train_softmax

if TYPE_CHECKING:
    from ..data import EvaluationData

VOID = 255
LEARNING_RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
WEIGHT_DECAYS = (1e-5, 1e-4, 1e-3)
_BATCH = 1024
_STEPS = 1500
_MAX_CLASSES = 1000


class SegmentationHead(NamedTuple):
    """A trained linear classifier of tokens.

    Args:
        training: what it was fitted on.
        weight, bias: [D, C] and [C].
        learning_rate, weight_decay: chosen.
        held_out_miou: of the candidate that was chosen, over tokens.
    """

    training: TrainingTokens
    weight: Tensor
    bias: Tensor
    learning_rate: float
    weight_decay: float
    held_out_miou: float

    def logits(self, tokens: Tensor) -> Tensor:
        """[..., D] to [..., C]."""
        return self.training.standardise(tokens) @ self.weight + self.bias


def fit_segmentation(training: TrainingTokens, seed: int) -> SegmentationHead:
    """Choose step size and weight decay on the held-out images, then train on all.

    Args:
        training: its targets are fractions of area [t, C].
        seed: of the batches.
    """
    held_out, x, targets = training.held_out, training.x, training.targets
    classes = targets.shape[1]
    grid = [(rate, decay) for rate in LEARNING_RATES for decay in WEIGHT_DECAYS]
    batches = shuffled_batches(int((~held_out).sum()), _BATCH, _STEPS, seed)
    weights, biases = train_softmax(x[~held_out], targets[~held_out], classes, grid, batches)
    scores = [token_miou(x[held_out] @ w + b, targets[held_out]) for w, b in zip(weights, biases, strict=True)]
    best = int(np.argmax(scores))
    batches = shuffled_batches(len(x), _BATCH, _STEPS, seed)
    weight, bias = train_softmax(x, targets, classes, [grid[best]], batches)
    return SegmentationHead(training, weight[0], bias[0], *grid[best], scores[best])


def token_miou(logits: Tensor, fractions: Tensor) -> float:
    """mIoU of one class a token against fractions of its area: both [t, C]."""
    predicted = torch.zeros_like(fractions).scatter_(1, logits.argmax(-1, keepdim=True), 1)
    intersection, known = (predicted * fractions).sum(0), fractions.sum(1, keepdim=True)
    union = fractions.sum(0) + (predicted * known).sum(0) - intersection
    there = fractions.sum(0) > 0
    return float((intersection[there] / union[there]).mean())


class Annotations(NamedTuple):
    """What the annotations of both sides hold, void left out.

    Args:
        classes: int64 [C], ids of the training annotations, ascending.
        there: bool [C], those that the validation annotations hold.
        train, validation: rows that can be read.
    """

    classes: np.ndarray
    there: np.ndarray
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
    headline: ClassVar[tuple[str, ...]] = ("miou", "pixel_accuracy")
    target_columns: ClassVar[tuple[str, ...]] = ("segmentation", "annotation", "segmentation_mask", "mask", "label")

    void: tuple[int, ...] = option((VOID,), "ids of pixels that do not count")

    def prepare(self, data: EvaluationData) -> None:
        """Every annotation is read once here, so that missing classes are named before any feature is computed."""
        self._annotations(data)

    def _annotations(self, data: EvaluationData) -> Annotations:
        return data.memo((self.name, "annotations", self), lambda: self._scan(*self.sides(data), data.progress))

    def _scan(self, train: DenseSide, validation: DenseSide, progress: bool) -> Annotations:
        known, asked = train.scan(self._ids, progress), validation.scan(self._ids, progress)
        check_count(known, train, self.name)
        classes, there = (sorted(Counter(i for ids in found.values() for i in ids)) for found in (known, asked))
        self._check_classes(classes, there)
        return Annotations(np.array(classes), np.isin(classes, there), list(known), list(asked))

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
            raise ValueError(f"segmentation needs two classes or more; the training annotations hold {list(classes)}")
        if len(classes) > _MAX_CLASSES:
            raise ValueError(
                f"the training annotations hold {len(classes)} ids, more than {_MAX_CLASSES}: instances or colours, not"
                " classes? Name another column with --segmentation_target_column"
            )
        if not asked:
            raise ValueError(f"every pixel of the validation annotations is void ({', '.join(map(str, self.void))})")
        missing = sorted(set(asked) - set(classes))
        if missing:
            raise ValueError(
                f"no training image has these classes of the validation annotations: {_few(missing)}; take more images"
                " (--segmentation_images), or leave them out with --segmentation_void"
            )

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        found, (train, validation) = self._annotations(data), self.sides(data)
        tokens = readable(patch_tokens(model, data, train.images, self.size), found.train)

        def target(row: int) -> tuple[np.ndarray, np.ndarray]:
            fractions = class_fractions(found.of(train, row), tokens.grid, len(found.classes))
            return fractions, fractions.sum(1)

        head = fit_segmentation(training_tokens(tokens, target, data.seed), data.seed)
        asked = readable(patch_tokens(model, data, validation.images, self.size), found.validation)
        sums, panels = self._compare(head, asked, validation, found, data.progress)
        guess = segmentation_measures(*sums[2:], found.there)
        measures = segmentation_measures(*sums[:2], found.there, (guess["miou"].value, guess["pixel_accuracy"].value))
        names = self._class_names(data, found)
        of_class = iter(measures["miou"].groups())
        details: dict[str, Any] = {
            "iou_by_class": {
                name: next(of_class) if there else None for name, there in zip(names, found.there, strict=True)
            },
            "train_images": len(tokens.rows),
            "train_tokens": len(head.training.x),
            "size": self.size or model.size,
            "grid": list(asked.grid),
        }
        details |= {name: getattr(head, name) for name in ("learning_rate", "weight_decay", "held_out_miou")}
        return TaskResult(measures, details, {"panels": panels, "names": names})

    def _compare(
        self, head: SegmentationHead, tokens: Tokens, side: DenseSide, found: Annotations, progress: bool
    ) -> tuple[np.ndarray, list[Panel]]:
        """Intersections and unions [4, n, C], of the head and then of the commonest class, and what is drawn."""
        classes, panels = len(found.classes), []
        commonest = int(head.training.targets.sum(0).argmax())
        sums = np.zeros((4, len(tokens.rows), classes))
        rows = tqdm(tokens.rows.tolist(), desc=f"{self.name}", unit="image", disable=not progress, leave=False)
        for index, row in enumerate(rows):
            truth = found.of(side, row)
            logits = head.logits(tokens.of(index)).T.unflatten(1, tokens.grid)  # [C, h, w]
            predicted = upsampled_argmax(logits, truth.shape)
            sums[:2, index] = intersection_and_union(predicted, truth, classes)
            sums[2:, index] = intersection_and_union(np.full_like(truth, commonest), truth, classes)
            if index in shown(len(tokens.rows)):
                panels.append(Panel(thumbnail(side.images, row), truth.shape, predicted, truth))
        return sums, panels

    def _class_names(self, data: EvaluationData, found: Annotations) -> list[str]:
        """PartScenes' parts; otherwise ids."""
        embedded = (self.dataset or data.source.dataset).partition("?")[0] == EMBEDDED
        names = dict(enumerate(("background", *PARTS))) if embedded else {}
        return [names.get(known, str(known)) for known in found.classes.tolist()]

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        sheet, bars = folder / "segmentation.png", folder / "segmentation_iou.png"
        names = next(iter(results.values())).artifacts["names"]
        draw_segmentation(sheet, {model: result.artifacts["panels"] for model, result in results.items()}, names)
        draw_class_iou(bars, {model: result.details["iou_by_class"] for model, result in results.items()})
        return [
            Picture(sheet, "Segmentation of validation images by a linear classifier of patch tokens"),
            Picture(bars, "Intersection over union by class"),
        ]


def _few(ids: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, ids[:most])) + (" ..." if len(ids) > most else "")

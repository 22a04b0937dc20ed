"""Relative position and scale of crops, read from frozen features: the first of the two where-probes.

Task (Shen et al. 2026, arXiv:2605.09963): two crops of one image are encoded apart; predict where the second lies and
how large it is, seen from the first. Protocol of this implementation (the paper's details are not public):

- **Crops.** V = 4 boxes an image, area 5 to 30 % of the image, aspect ratio 3/4 to 4/3, overlap allowed, never flipped;
  drawn from fixed keys, so every model sees the same. All V (V - 1) ordered pairs count.
- **Countermeasures** against shortcuts: own effective resolution and photometric jitter for every crop, and a margin
  (:mod:`.protocol`). Of images with fewer pixels than twice the crops' size, crops are shown less sharp
  (:mod:`.own_pixels`).
- **Targets.** (dx, dy) between the centres in image widths and heights, and the natural logs of the ratios of widths
  and of heights (:func:`~sp_hf.views.geometry.relation`). Scale is their mean, the log ratio of the square roots of the
  areas.
- **Features.** Class token and mean patch token, concatenated and standardised by the training crops.
- **Probes** on the concatenated features of the pair: ridge regression, the headline
  (:mod:`.probe`), and a small MLP (:mod:`.mlp`; metrics
  named ``..._mlp``). Whatever they choose is chosen on 20 % of the training images, whole images, never on those
  reported.
- **Metrics**, on the validation images: what features add to the R2 of low-level cues, the headline
  (:mod:`.beyond_cues`); R2 (pooled over pairs), mean absolute error, IoU of the predicted second box with the true one,
  and all of these by distance and by overlap (:mod:`.measures`); 95 % intervals (:mod:`sp_hf.evaluation.measure`).

Letters: n images, V crops of an image, P = V (V - 1) pairs, D feature size, T = 4 targets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from ....errors import InputError
from ....views.pairs import ordered_pairs
from ...controls.low_level_cues import SMALLEST
from ...features import Features
from ...measure import Measure, with_refits
from ...model import EvaluatedModel, Role
from ...probes.hold_out import MIN_IMAGES
from ...probes.refits import random_halves
from ...task import Picture, Task, TaskResult, TaskSkipped, option
from .beyond_cues import beyond_cues
from .crops import crops_of, cues_of
from .measures import binned_metrics, relation_measures
from .mlp import RelationMLP
from .own_pixels import Detail, detail_of
from .pictures import draw_bins, draw_predictions
from .probe import PROBE, RelationProbe, embedding
from .protocol import RelativeGeometryProtocol

if TYPE_CHECKING:
    from ...data import EvaluationData

_SHOWN = 8  # images in the picture
_OF_MLP = ("r2_position", "r2_scale", "iou")


@dataclasses.dataclass(frozen=True)
class RelativeGeometry(Task):
    """Relative position and scale of two crops."""

    name: ClassVar[str] = "relative-geometry"
    kind: ClassVar[Literal["what", "where"]] = "where"
    headline: ClassVar[tuple[str, ...]] = (
        "r2_position_beyond_cues",
        "r2_scale_beyond_cues",
        "r2_position",
        "r2_scale",
        "iou",
    )
    controls: ClassVar[tuple[Role, ...]] = ("pixels", "cues", "random")

    crop_size: int | None = option(None, "side in px of crops; default: the model's own size")
    canvas_size: int | None = option(None, "side in px at which images are kept; default: three times crop_size")
    images: int | None = option(1000, "images of each side; 0 for all")
    mlp: bool = True
    cues: bool = True
    protocol: RelativeGeometryProtocol = dataclasses.field(default_factory=RelativeGeometryProtocol)

    def __post_init__(self) -> None:
        check_sizes(self.crop_size, self.canvas_size, self.images)

    def detail_for(self, model: EvaluatedModel, data: EvaluationData) -> Detail:
        """How this model is shown the crops; raises ValueError where the images are too small for them."""
        return detail_of(data, self.crop_size or model.size, self.images or None)

    def prepare(self, data: EvaluationData) -> None:
        check_enough_images(data, self.images)

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        detail = self.detail_for(model, data)
        if model.role != "cues":
            model.encoder.patches_of(detail.size)

    def canvas_sizes(self, model: EvaluatedModel, data: EvaluationData) -> Collection[int]:
        return {self.canvas_size or self.detail_for(model, data).canvas}

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        detail = self.detail_for(model, data)
        if model.role == "cues" and detail.size < SMALLEST:
            raise TaskSkipped(f"crops of {detail.size} px are too small for their statistics; they need {SMALLEST}")
        spec, canvas = detail.spec(self.protocol), self.canvas_size or detail.canvas
        train, validation = crops_of(model, data, spec, canvas, self.images or None)
        options: dict[str, Any] = {"seed": data.seed, "refits": data.refits}
        measures, facts, predicted = probe_relations(train, validation, mlp=self.mlp, **options)
        if self.cues and model.role != "cues" and detail.size >= SMALLEST:
            cues = cues_of(data, spec, canvas, self.images or None)
            measures = beyond_cues(cues, (train, validation), **options) | measures
        details = {
            "measured_at": detail.measured_at(self.protocol),
            "crop_size": detail.size,
            "canvas_size": canvas,
            "effective_resolution_px": [round(share * detail.size, 2) for share in spec.effective_resolution or (1, 1)],
            "image_side_px": detail.own if math.isfinite(detail.own) else None,
        }
        facts["notes"] = detail.notes + facts["notes"]
        images = data.canvases(data.validation, canvas, self.images or None)
        shown = torch.arange(min(_SHOWN, len(images))) * len(images) // min(_SHOWN, len(images))
        artifacts = {
            "canvases": images.canvases[shown],
            "aspects": images.aspects[shown],
            "boxes": validation.boxes[shown],
            "predicted": predicted[shown],
        }
        return TaskResult(measures, details | facts, artifacts)

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        sheet, bins = folder / "relative-geometry.png", folder / "relative-geometry-bins.png"
        draw_predictions(sheet, {name: result.artifacts for name, result in results.items()})
        draw_bins(bins, {name: result.details["bins"] for name, result in results.items()})
        return [
            Picture(
                sheet,
                "Where the second crop lies, seen from the first (white): the truth dashed, the ridge probe's answer in"
                " colour, with its IoU. Pairs of validation images, evenly spaced.",
            ),
            Picture(
                bins,
                "By distance of the crops' centres (in image widths and heights) and by their overlap; R2 within each"
                " bin (below 0: worse than answering that nothing differs); bars: 95 % intervals over images.",
            ),
        ]


def check_sizes(crop_size: int | None, canvas_size: int | None, images: int | None) -> None:
    """Raise ValueError for a number out of range."""
    for name, value, least in (("crop_size", crop_size, 1), ("canvas_size", canvas_size, 1), ("images", images, 0)):
        if value is not None and value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}")


def check_enough_images(data: EvaluationData, images: int | None) -> None:
    """Raise ValueError if there are too few training images for a probe that holds some of them out."""
    count = min(len(data.train.rows), images or len(data.train.rows))
    if count < MIN_IMAGES:
        raise InputError(f"{count} training images are too few for {PROBE}; it needs {MIN_IMAGES} or more")


def probe_relations(
    train: Features, validation: Features, *, seed: int = 0, mlp: bool = True, refits: int = 0
) -> tuple[dict[str, Measure], dict[str, Any], Tensor]:
    """Fit both probes to the training crops and measure them on the validation crops.

    Args:
        train, validation: features and boxes of V crops an image.
        seed: of the held-out images, the MLP's weights, the refits and the intervals of the bins.
        mlp: train the MLP, too.
        refits: of the ridge probe to halves of the training images.

    Returns:
        The metrics; details for the report; and the ridge probe's relations of all ordered pairs [n, P, 4].

    Raises:
        ValueError: too few training images.
    """
    first, second = ordered_pairs(validation.boxes.shape[1])
    boxes = validation.boxes.double()
    measures, predicted, ridge = ridge_relations(train, validation, seed=seed, refits=refits)
    details: dict[str, Any] = {
        "train_images": len(train.boxes),
        "pairs": len(boxes) * len(first),
        "penalties": ridge.penalties.tolist(),
        "notes": [],
    }
    if mlp:
        network = RelationMLP.fit(embedding(train), train.boxes, seed=seed)
        answers = network.predict_pairs(embedding(validation))
        of_mlp = relation_measures(boxes[:, first], boxes[:, second], answers)
        details["notes"] = [note for name in _OF_MLP[:2] for note in disagreement(name, measures, of_mlp)]
        measures |= {f"{name}_mlp": of_mlp[name] for name in _OF_MLP}
        details["mlp_epochs"] = network.epochs
    details["bins"] = binned_metrics(boxes[:, first], boxes[:, second], predicted, seed)
    return measures, details, predicted


def ridge_relations(
    train: Features, validation: Features, *, seed: int = 0, refits: int = 0
) -> tuple[dict[str, Measure], Tensor, RelationProbe]:
    """The ridge probe's metrics, its relations of all ordered pairs [n, P, 4], and the probe.

    Args:
        train, validation, seed, refits: as for :func:`probe_relations`.

    Raises:
        ValueError: too few training images.
    """
    first, second = ordered_pairs(validation.boxes.shape[1])
    known, asked, boxes = embedding(train), embedding(validation), validation.boxes.double()

    def answers(probe: RelationProbe) -> Tensor:
        return probe.predict(asked[:, first], asked[:, second])

    def measured(predicted: Tensor) -> dict[str, Measure]:
        return relation_measures(boxes[:, first], boxes[:, second], predicted)

    ridge = RelationProbe.fit(known, train.boxes, seed=seed)
    predicted = answers(ridge)
    halves = random_halves(len(known), refits, seed)
    refitted = [measured(answers(ridge.refit(known[half], train.boxes[half]))) for half in halves]
    return with_refits(measured(predicted), refitted), predicted, ridge


def disagreement(name: str, ridge: dict[str, Measure], mlp: dict[str, Measure]) -> list[str]:
    """A note where one probe finds something and the other less than nothing, to two decimals."""
    ours, theirs = ridge[name].value, mlp[name].value
    if round(ours, 2) * round(theirs, 2) >= 0:
        return []
    return [f"{name}: the probes disagree in sign, ridge {ours:.3f} and MLP {theirs:.3f}: do not read it as knowledge"]

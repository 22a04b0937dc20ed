"""Relative position and scale of crops, read from frozen features: the first of the two where-probes.

Task (Shen et al. 2026, arXiv:2605.09963): two crops of one image are encoded apart; predict where the second lies and
how large it is, seen from the first. Protocol of this implementation (the paper's details are not public):

- **Crops.** V = 4 boxes an image, area 5 to 30 % of the image, aspect ratio 3/4 to 4/3, overlap allowed, never flipped;
  drawn from fixed keys, so every model sees the same. All V (V - 1) ordered pairs count.
- **Countermeasures.** Every crop has its own photometric jitter and its own effective resolution, drawn independently
  of its box, lest colour tell that two crops belong together or sharpness tell their size. (What an image lacks
  itself cannot be hidden: images should have twice the crops' output size in pixels, or more.)
- **Targets.** (dx, dy) between the centres in image widths and heights, and the natural logs of the ratios of widths
  and of heights (:func:`sp_hf.geometry.relation`). Scale is their mean, the log ratio of the square roots of the areas.
- **Features.** Class token and mean patch token, concatenated and standardised by the training crops.
- **Probe.** Ridge regression on the concatenated features of the pair, in closed form; the penalty of each target is
  chosen on 20 % of the training images, and the fit is then repeated on all of them.
- **Figures**, on the validation images: R2 (pooled over pairs), mean absolute error, IoU of the predicted second box
  with the true one; 95 % intervals by the bootstrap over images.

**Closed form.** A relation in image units is a difference, z_j - z_i, of coordinates z = (cx, cy, ln w, ln h). Over all
ordered pairs of an image, ridge on [f_i, f_j] is unchanged by swapping i and j and the signs, so its solution has the
form W (f_j - f_i), and the sum of squares over the pairs equals 2 V times that over the crops, each less its image's
mean. The fit is thus a ridge regression of centred coordinates on centred features, n V rows instead of n V (V - 1).

Letters: n images, V crops of an image, D feature size, T = 4 targets.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from ...geometry import apply_relation, box_iou, log_scale, relation
from ...objectives.where.pairs import ordered_pairs
from ...photometric import Photometric
from ...views import ViewSpec
from ..features import Features
from ..measure import Measure
from ..model import EvaluatedModel
from ..ridge import fit_ridge
from ..task import Task, TaskResult, option

if TYPE_CHECKING:
    from ..data import EvaluationData

_HELD_OUT = 0.2  # of the training images, to choose the penalty
_MIN_IMAGES = 10
_CANVAS = 3  # times the crops' size: at which the smallest crops are no blurrier than the protocol makes the others
_ROUNDING = 1e-6  # relative spread of a feature below which float32 says nothing


@dataclasses.dataclass(frozen=True)
class RelativeGeometryProtocol:
    """What is drawn from each image. Two results can be compared only if these are equal.

    Args:
        crops: V, at least 2.
        area, aspect, photometric, effective_resolution: of the crops, see :class:`~sp_hf.views.ViewSpec`.
    """

    crops: int = 4
    area: tuple[float, float] = (0.05, 0.3)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    photometric: Photometric = dataclasses.field(default_factory=Photometric.byol)
    effective_resolution: tuple[float, float] | None = (0.2, 0.4)

    def __post_init__(self) -> None:
        if self.crops < 2:
            raise ValueError(f"crops is {self.crops}; a pair needs at least 2 an image")

    def view_spec(self, size: int) -> ViewSpec:
        """The crops at an output size in px."""
        return ViewSpec(
            count=self.crops,
            size=size,
            area=self.area,
            aspect=self.aspect,
            flip="none",
            photometric=self.photometric,
            effective_resolution=self.effective_resolution,
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class RelationProbe:
    """A linear map from the features of crops to coordinates whose differences are relations.

    Args:
        scale: [D], standard deviation of the training crops' features; infinite where one is constant.
        weights: [D, T].
        penalties: [T], chosen.
    """

    scale: Tensor
    weights: Tensor
    penalties: Tensor

    @classmethod
    def fit(cls, features: Tensor, boxes: Tensor, *, seed: int) -> RelationProbe:
        """Fit to all ordered pairs of the training images (see the module's closed form).

        Args:
            features: [n, V, D].
            boxes: [n, V, 4], cxcywh.
            seed: of the choice of the held-out images.

        Raises:
            ValueError: too few images to hold some out.
        """
        n, crops = features.shape[:2]
        if n < _MIN_IMAGES:
            raise ValueError(f"{n} training images are too few for the where-probe; it needs {_MIN_IMAGES} or more")
        features = features.double()
        scale = features.flatten(0, 1).std(0)
        constant = scale <= _ROUNDING * features.abs().amax((0, 1))
        scale = scale.masked_fill(constant, torch.inf)  # they become 0
        x = _centred(features / scale)
        y = _centred(_coordinates(boxes.double()))
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        held_out = torch.zeros(n, dtype=torch.bool)
        held_out[order[: max(1, round(_HELD_OUT * n))]] = True
        weights, penalties = fit_ridge(x.flatten(0, 1), y.flatten(0, 1), held_out.repeat_interleave(crops))
        return cls(scale, weights, penalties)

    def predict(self, first: Tensor, second: Tensor) -> Tensor:
        """Relations of second to first crops, in image units: features [..., D] twice to float64 [..., 4]."""
        return ((second.double() - first.double()) / self.scale) @ self.weights


def _coordinates(boxes: Tensor) -> Tensor:
    """(cx, cy, ln w, ln h), whose differences are relations in image units."""
    return torch.cat([boxes[..., :2], boxes[..., 2:].log()], dim=-1)


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(1, keepdim=True)


def embedding(features: Features) -> Tensor:
    """Class token and mean patch token: [n, V, D]."""
    return torch.cat([features.cls, features.mean_patch], dim=-1)


def relation_measures(first: Tensor, second: Tensor, predicted: Tensor) -> dict[str, Measure]:
    """The figures of predicted relations, pooled over the pairs, as sums over images.

    ``r2_position`` is of x and y at once, residual over total of both; ``mae_x`` and ``mae_y`` are in image widths and
    heights; ``iou`` is of the predicted second box with the true one, the first box given.

    Args:
        first, second: [n, pairs, 4] boxes, cxcywh.
        predicted: [n, pairs, 4] relations in image units.
    """
    truth = relation(first, second)
    truth = torch.cat([truth[..., :2], log_scale(truth)[..., None]], dim=-1)  # [n, pairs, 3]: dx, dy, log scale
    error = torch.cat([predicted[..., :2], log_scale(predicted)[..., None]], dim=-1) - truth
    residual = error.square().sum(1)  # [n, 3]
    # With both orders of every pair the mean of each target is exactly 0: squares are deviations from the mean.
    total = truth.square().sum(1)
    absolute, iou = error.abs().mean(1), box_iou(apply_relation(first, predicted), second).mean(1)

    def r2(*targets: int) -> Measure:
        columns = list(targets)
        return Measure(residual[:, columns].sum(1), total[:, columns].sum(1), form="complement", chance=0.0)

    measures = {"r2_position": r2(0, 1), "r2_scale": r2(2), "r2_x": r2(0), "r2_y": r2(1)}
    for column, name in enumerate(("mae_x", "mae_y", "mae_scale")):
        measures[name] = Measure.of(absolute[:, column], higher_is_better=False)
    return measures | {"iou": Measure.of(iou)}


@dataclasses.dataclass(frozen=True)
class RelativeGeometry(Task):
    """Relative position and scale of two crops."""

    name: ClassVar[str] = "relative-geometry"
    kind: ClassVar[Literal["what", "where"]] = "where"
    headline: ClassVar[tuple[str, ...]] = ("r2_position", "r2_scale", "iou")

    crop_size: int | None = option(None, "side in px of crops; default: the model's own size")
    canvas_size: int | None = option(None, "side in px at which images are kept; default: three times crop_size")
    images: int | None = option(1000, "images of each side; 0 for all")
    protocol: RelativeGeometryProtocol = dataclasses.field(default_factory=RelativeGeometryProtocol)

    def spec_for(self, model: EvaluatedModel) -> ViewSpec:
        """The crops this model is shown."""
        return self.protocol.view_spec(self.crop_size or model.size)

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        model.encoder.patches_of(self.spec_for(model).size)

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        spec = self.spec_for(model)
        canvas = self.canvas_size or _CANVAS * spec.size
        train, validation = (
            data.crops(model, sample, spec, canvas, self.images or None) for sample in (data.train, data.validation)
        )
        probe = RelationProbe.fit(embedding(train), train.boxes, seed=data.seed)
        first, second = ordered_pairs(spec.count)
        inputs, boxes = embedding(validation), validation.boxes.double()
        predicted = probe.predict(inputs[:, first], inputs[:, second])  # [n, pairs, 4]
        return TaskResult(
            relation_measures(boxes[:, first], boxes[:, second], predicted),
            {
                "crop_size": spec.size,
                "canvas_size": canvas,
                "train_images": len(train.boxes),
                "pairs": len(boxes) * len(first),
                "penalties": probe.penalties.tolist(),
            },
        )

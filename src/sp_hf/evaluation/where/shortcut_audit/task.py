"""Shortcut audit: how much of relative position and scale low-level cues alone give away, and what models know beyond.

The cues of :mod:`~sp_hf.evaluation.controls.low_level_cues` stand in for an encoder: the ridge probe of relative
geometry is fitted to them, each alone and all together, on the very crops that models are shown (*protocol*), and on
crops of the same random numbers *without countermeasures*: sharp, in their own colours, up to the image's borders. A
cue whose R2 the protocol brings to 0 cannot help a model there; what is left stands beside every model's R2.

What a model knows **beyond cues** is the R2 that its features add to all cues, on the crops of the protocol (the
squared semipartial correlation; Cohen et al. 2003, "Applied multiple regression/correlation analysis", section 3.3)::

    R2([cues, features]) - R2(cues)

Letters: n images, V crops of an image, D feature size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ....errors import InputError
from ....views.pairs import ordered_pairs
from ...controls.low_level_cues import CUES, SMALLEST, LowLevelCues, cue_columns
from ...features import Features
from ...measure import Measure
from ...model import CUES as CUES_CONTROL
from ...model import EvaluatedModel, Preprocess
from ...task import Picture, Task, TaskResult, option
from ..relative_geometry.measures import relation_measures
from ..relative_geometry.probe import RelationProbe, embedding
from ..relative_geometry.protocol import CANVAS, RelativeGeometryProtocol
from ..relative_geometry.task import check_enough_images, check_sizes
from .pictures import draw_audit

if TYPE_CHECKING:
    from ...data import EvaluationData

TARGETS = ("position", "scale")
ALL = "all_cues"
_SETTINGS = ("protocol", "without countermeasures")

Sides = tuple[Features, Features]  # training, validation


@dataclasses.dataclass(frozen=True)
class ShortcutAudit(Task):
    """What low-level cues alone tell of relative position and scale."""

    name: ClassVar[str] = "shortcut-audit"
    kind: ClassVar[Literal["what", "where"]] = "where"
    headline: ClassVar[tuple[str, ...]] = (
        "r2_position_beyond_cues",
        "r2_scale_beyond_cues",
        "r2_position_all_cues",
        "r2_scale_all_cues",
    )

    crop_size: int | None = option(None, "side in px of crops; default: the model's own size")
    canvas_size: int | None = option(None, "side in px at which images are kept; default: three times crop_size")
    images: int | None = option(1000, "images of each side; 0 for all")
    protocol: RelativeGeometryProtocol = dataclasses.field(default_factory=RelativeGeometryProtocol)

    def __post_init__(self) -> None:
        check_sizes(self.crop_size, self.canvas_size, self.images)

    def prepare(self, data: EvaluationData) -> None:
        check_enough_images(data, self.images)

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        size = self.crop_size or model.size
        model.encoder.patches_of(size)
        LowLevelCues().patches_of(size)

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        size = self.crop_size or model.size
        canvas = self.canvas_size or CANVAS * size
        alone = data.memo(("shortcut audit", self, size), lambda: self._cues(data, size, canvas))
        cues = self._crops(_cue_model(data), data, self.protocol, size, canvas)
        features = self._crops(model, data, self.protocol, size, canvas)
        added = beyond_cues(cues, features, data.seed)
        return TaskResult(added | alone, {"crop_size": size, "canvas_size": canvas, "train_images": len(cues[0].boxes)})

    def _cues(self, data: EvaluationData, size: int, canvas: int) -> dict[str, Measure]:
        measures: dict[str, Measure] = {}
        for setting in _SETTINGS:
            protocol = self.protocol if setting == "protocol" else self.protocol.without_countermeasures()
            found = audit(*self._crops(_cue_model(data), data, protocol, size, canvas), seed=data.seed)
            suffix = "" if setting == "protocol" else "_without_countermeasures"
            measures |= {f"{name}{suffix}": measure for name, measure in found.items()}
        return measures

    def _crops(
        self, model: EvaluatedModel, data: EvaluationData, protocol: RelativeGeometryProtocol, size: int, canvas: int
    ) -> Sides:
        spec = protocol.view_spec(size)
        train = data.crops(model, data.train, spec, canvas, self.images or None)
        return train, data.crops(model, data.validation, spec, canvas, self.images or None)

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        path = folder / "shortcut-audit.png"
        first = next(iter(results.values()))
        draw_audit(path, {name: measure.estimate() for name, measure in first.measures.items()}, (*CUES, ALL))
        caption = (
            f"What low-level cues alone tell of relative geometry, crops of {first.details['crop_size']} px: R2 of the"
            " ridge probe with the protocol's countermeasures and without; bars: 95 % intervals over images."
        )
        return [Picture(path, caption)]


def _cue_model(data: EvaluationData) -> EvaluatedModel:
    """The cues, dressed as an encoder: one a run, so that all models share what it makes of their crops."""
    preprocess = Preprocess.squash(SMALLEST)  # crops do not go through it
    return data.memo(
        ("low-level cues",), lambda: EvaluatedModel(CUES_CONTROL, LowLevelCues().eval(), preprocess, role="cues")
    )


def audit(train: Features, validation: Features, *, seed: int = 0) -> dict[str, Measure]:
    """R2 of position and of scale from each cue alone and from all of them: ``r2_<target>_<cue>``.

    Args:
        train, validation: of :class:`~sp_hf.evaluation.controls.low_level_cues.LowLevelCues`.
        seed: of the held-out training images.
    """
    columns: dict[str, slice] = {cue: cue_columns(cue) for cue in CUES} | {ALL: slice(None)}
    found = {
        cue: _fit(train.cls[..., part], train.boxes, validation.cls[..., part], validation.boxes, seed)
        for cue, part in columns.items()
    }
    return {f"r2_{target}_{cue}": found[cue][f"r2_{target}"] for target in TARGETS for cue in columns}


def beyond_cues(cues: Sides, features: Sides, seed: int = 0) -> dict[str, Measure]:
    """The R2 that a model's features add to that of all cues: ``r2_<target>_beyond_cues``.

    Args:
        cues, features: training and validation side, of the same crops.
        seed: of the held-out training images.

    Raises:
        ValueError: the crops differ.
    """
    for ours, theirs in zip(cues, features, strict=True):
        if ours.boxes.shape != theirs.boxes.shape or not torch.allclose(ours.boxes, theirs.boxes, atol=1e-5):
            raise InputError("the cues and the features are of different crops: not comparable")
    (train, validation), (train_features, validation_features) = cues, features
    both = _fit(
        torch.cat([train.cls, embedding(train_features)], dim=-1),
        train.boxes,
        torch.cat([validation.cls, embedding(validation_features)], dim=-1),
        validation.boxes,
        seed,
    )
    alone = _fit(train.cls, train.boxes, validation.cls, validation.boxes, seed)
    added: dict[str, Measure] = {}
    for target in TARGETS:
        ours, theirs = both[f"r2_{target}"], alone[f"r2_{target}"]
        # Both are 1 - residual / total, of the same total.
        added[f"r2_{target}_beyond_cues"] = Measure(theirs.numerators - ours.numerators, ours.denominators, chance=0.0)
    return added


def _fit(x: Tensor, boxes: Tensor, queries: Tensor, query_boxes: Tensor, seed: int) -> dict[str, Measure]:
    first, second = ordered_pairs(boxes.shape[1])
    probe = RelationProbe.fit(x, boxes, seed=seed)
    query_boxes = query_boxes.double()
    predicted = probe.predict(queries[:, first], queries[:, second])
    return relation_measures(query_boxes[:, first], query_boxes[:, second], predicted)

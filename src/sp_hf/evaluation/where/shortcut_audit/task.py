"""Shortcut audit: how much of relative position and scale low-level cues alone give away, and what models know beyond.

The cues of :mod:`~sp_hf.evaluation.controls.low_level_cues` stand in for an encoder: the ridge probe of relative
geometry is fitted to them, each alone and all together, on the very crops that models are shown (*protocol*), and on
crops of the same random numbers *without countermeasures*: sharp, in their own colours, up to the image's borders. A
cue whose R2 the protocol brings to 0 cannot help a model there; what is left stands beside every model's R2.

Cues are clipped to what 98 % of the training crops have, and crops are shown no sharper than the images' own pixels
allow (:mod:`~sp_hf.evaluation.where.relative_geometry.own_pixels`). What a model knows **beyond cues** is the R2 that
its features add to all cues, on the same crops (:mod:`~sp_hf.evaluation.where.relative_geometry.beyond_cues`).

Letters: n images, V crops of an image, D feature size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import Tensor

from ....views.pairs import ordered_pairs
from ...controls.low_level_cues import CUES, LowLevelCues, cue_columns
from ...features import Features
from ...measure import Measure
from ...model import EvaluatedModel
from ...task import Picture, Task, TaskResult, once_a_task, option
from ..relative_geometry.beyond_cues import TARGETS, beyond_cues
from ..relative_geometry.crops import crops_of, cues_of
from ..relative_geometry.measures import relation_measures
from ..relative_geometry.own_pixels import Detail, detail_of
from ..relative_geometry.probe import RelationProbe
from ..relative_geometry.protocol import RelativeGeometryProtocol
from ..relative_geometry.task import check_enough_images, check_sizes
from .pictures import draw_audit

if TYPE_CHECKING:
    from ...data import EvaluationData

ALL = "all_cues"
_SETTINGS = ("protocol", "without countermeasures")


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
        size = self._detail(model, data).size
        model.encoder.patches_of(size)
        LowLevelCues().patches_of(size)

    def _detail(self, model: EvaluatedModel, data: EvaluationData) -> Detail:
        return detail_of(data, self.crop_size or model.size, self.images or None)

    def canvas_sizes(self, model: EvaluatedModel, data: EvaluationData) -> Collection[int]:
        return {self.canvas_size or self._detail(model, data).canvas}

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        detail = self._detail(model, data)
        spec, canvas, images = detail.spec(self.protocol), self.canvas_size or detail.canvas, self.images or None
        alone = self._cues(data, detail, canvas)
        cues, features = cues_of(data, spec, canvas, images), crops_of(model, data, spec, canvas, images)
        added = beyond_cues(cues, features, data.seed, data.refits)
        details = {
            "measured_at": detail.measured_at(self.protocol),
            "crop_size": detail.size,
            "canvas_size": canvas,
            "train_images": len(cues[0].boxes),
            "notes": detail.notes,
        }
        return TaskResult(added | alone, details)

    @once_a_task
    def _cues(self, data: EvaluationData, detail: Detail, canvas: int) -> dict[str, Measure]:
        measures: dict[str, Measure] = {}
        for setting in _SETTINGS:
            protocol = self.protocol if setting == "protocol" else self.protocol.without_countermeasures()
            audited = audit(*cues_of(data, detail.spec(protocol), canvas, self.images or None), seed=data.seed)
            suffix = "" if setting == "protocol" else "_without_countermeasures"
            measures |= {f"{name}{suffix}": measure for name, measure in audited.items()}
        return measures

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


def audit(train: Features, validation: Features, *, seed: int = 0) -> dict[str, Measure]:
    """R2 of position and of scale from each cue alone and from all of them: ``r2_<target>_<cue>``.

    Args:
        train, validation: of :class:`~sp_hf.evaluation.controls.low_level_cues.LowLevelCues`, clipped.
        seed: of the held-out training images.
    """
    columns: dict[str, slice] = {cue: cue_columns(cue) for cue in CUES} | {ALL: slice(None)}
    measures = {
        cue: _fit(train.cls[..., part], train.boxes, validation.cls[..., part], validation.boxes, seed)
        for cue, part in columns.items()
    }
    return {f"r2_{target}_{cue}": measures[cue][f"r2_{target}"] for target in TARGETS for cue in columns}


def _fit(x: Tensor, boxes: Tensor, queries: Tensor, query_boxes: Tensor, seed: int) -> dict[str, Measure]:
    first, second = ordered_pairs(boxes.shape[1])
    probe = RelationProbe.fit(x, boxes, seed=seed)
    query_boxes = query_boxes.double()
    predicted = probe.predict(queries[:, first], queries[:, second])
    return relation_measures(query_boxes[:, first], query_boxes[:, second], predicted)

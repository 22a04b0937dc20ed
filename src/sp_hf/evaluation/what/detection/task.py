"""Detection: are the patch tokens of an encoder enough to find objects and name them?

RT-DETR's encoder and decoder, small, are trained on the encoder's patch tokens (see :mod:`.object_task`); ``ap`` is
COCO's average precision of boxes over thresholds of IoU from 0.5 to 0.95, ``ap_50`` and ``ap_75`` at one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from .heads import Answers, box_answers, box_detector
from .object_task import ObjectTask
from .objects import ImageObjects
from .training import box_targets


@dataclasses.dataclass(frozen=True)
class Detection(ObjectTask):
    """Boxes of objects, by a light detector on the patch tokens."""

    name: ClassVar[str] = "detection"
    hub_task: ClassVar[str] = "object-detection"
    shapes: ClassVar[Literal["bbox", "segm"]] = "bbox"

    def detector(self, source: nn.Module, features: int, classes: int, grid: tuple[int, int]) -> PreTrainedModel:
        return box_detector(source, features, classes, grid)

    def targets(self, objects: list[ImageObjects], side: int, device: torch.device) -> dict[str, Any]:
        return box_targets(objects, device)

    def answers(self, outputs: Any, sizes: list[tuple[int, int]]) -> list[Answers]:
        return box_answers(outputs)

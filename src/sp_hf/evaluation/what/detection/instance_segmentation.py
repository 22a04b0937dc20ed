"""Instance segmentation: are the patch tokens of an encoder enough to cut objects out, each by itself?

Mask2Former's decoders, small, are trained on the encoder's patch tokens (see :mod:`.object_task`); ``ap`` is COCO's
average precision of masks over thresholds of IoU from 0.5 to 0.95, ``ap_50`` and ``ap_75`` at one.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from .heads import Answers, mask_answers, mask_detector
from .object_task import ObjectTask
from .objects import ImageObjects
from .training import mask_targets


@dataclasses.dataclass(frozen=True)
class InstanceSegmentation(ObjectTask):
    """Masks of objects, by a light detector on the patch tokens."""

    name: ClassVar[str] = "instance-segmentation"
    hub_task: ClassVar[str] = "image-segmentation"
    shapes: ClassVar[Literal["bbox", "segm"]] = "segm"

    def detector(self, source: nn.Module, features: int, classes: int, grid: tuple[int, int]) -> PreTrainedModel:
        return mask_detector(source, features, classes)

    def targets(self, objects: list[ImageObjects], side: int, device: torch.device) -> dict[str, Any]:
        return mask_targets(objects, side, device)

    def answers(self, outputs: Any, sizes: list[tuple[int, int]]) -> list[Answers]:
        return mask_answers(outputs, sizes)

"""The Where tab: two crops, encoded apart, and where a model thinks the second lies, seen from the first.

Only the two crops go to the model, resampled to its size and low-passed to the middle of the resolutions that the probe
was fitted to (:mod:`sp_hf.evaluation.where.relative_geometry.protocol`): sharpness must not tell how large a box is.

Letters: N side of a crop in px, S side of a canvas.
"""

from __future__ import annotations

import dataclasses
import math
import re

import torch
from torch import Tensor

from ..errors import InputError
from ..evaluation.model import EvaluatedModel
from ..evaluation.whole_images import encode_pixels
from ..views.crops import crop
from ..views.geometry import apply_relation, box_iou, relation, to_cxcywh
from ..views.resampling import extra_variance
from ..views.spec import ViewSpec
from .probe_set import ProbeSet, crop_spec
from .uploads import SHOWN, Upload

SMALLEST = 0.1  # side of a box, in sides of the image
BOXES = ("8, 45, 36, 40", "52, 8, 38, 42")
"""Where the page puts them at first, if nothing typical is known of its photograph (:mod:`.typical`)."""


@dataclasses.dataclass(frozen=True)
class Located:
    """What a model says.

    Args:
        first, second, predicted: boxes float64 [4], cxcywh: the two crops, and where the second is thought to be.
    """

    first: Tensor
    second: Tensor
    predicted: Tensor

    @property
    def iou(self) -> float:
        return float(box_iou(self.predicted, self.second))

    @property
    def error(self) -> tuple[float, float, float]:
        """How far the predicted box is off: in image widths, in image heights, and as a factor of its size."""
        off = relation(self.second, self.predicted)
        return float(off[0]), float(off[1]), math.exp(float(off[2] + off[3]) / 2)


def read_box(text: str, which: str) -> Tensor:
    """A box from "left, top, width, height" in percent of the image: float64 [4], cxcywh.

    Raises:
        ValueError: not four numbers, or not a box inside the image.
    """
    numbers = re.findall(r"[-+]?\d*\.?\d+", (text or "")[:100])
    if len(numbers) != 4:
        raise InputError(f"The {which} box is “{(text or '')[:40]}”; it must be left, top, width, height in percent.")
    left, top, width, height = (float(number) / 100 for number in numbers)
    if min(width, height) < SMALLEST - 1e-6:
        raise InputError(f"The {which} box is too small; it must be {100 * SMALLEST:.0f} % of the image a side.")
    if min(left, top) < -1e-6 or max(left + width, top + height) > 1 + 1e-6:
        raise InputError(f"The {which} box reaches out of the image; left + width and top + height go up to 100.")
    return to_cxcywh(torch.tensor([left, top, left + width, top + height], dtype=torch.float64))


def cut_crops(square: Tensor, boxes: Tensor, spec: ViewSpec) -> Tensor:
    """Crops of a canvas uint8 [3, S, S] at boxes [V, 4], float32 [V, 3, N, N] in [0, 1]; see the module."""
    canvas, size = square.shape[-1], spec.size
    low, high = spec.effective_resolution or (1.0, 1.0)
    centres, extents = boxes.float()[None].movedim(-1, 0).split(2)  # [2, 1, V]
    zoom = extents * (canvas / size)
    blur = extra_variance(zoom, torch.full_like(zoom, math.sqrt(low * high)))
    rows_first = square.permute(1, 0, 2)[None].float().contiguous()  # [1, S, 3, S]
    return crop(rows_first, centres, extents, size, blur=blur)[0].clamp(0, 255) / 255


def locate(model: EvaluatedModel, probes: ProbeSet, upload: Upload, first: Tensor, second: Tensor) -> Located:
    """Say where the second box lies from what is in the two.

    Args:
        model: on its device.
        probes: its own.
        first, second: float64 [4], cxcywh.
    """
    crops = cut_crops(upload.square(SHOWN), torch.stack([first, second]), crop_spec(model))
    with torch.inference_mode():
        encoding = encode_pixels(model, crops)
        features = torch.cat([encoding.cls.float(), encoding.patches.float().mean(1)], dim=-1).cpu()
    predicted = apply_relation(first, probes.relation.predict(features[0], features[1]))
    return Located(first, second, predicted)


def in_words(located: Located) -> str:
    """The error in a sentence."""
    x, y, scale = located.error
    parts = [_off(x, "width", "left", "right"), _off(y, "height", "high", "low")]
    parts = [part for part in parts if part]
    if scale > 1.1:
        parts.append(f"{scale:.1f} times too large")
    elif scale < 1 / 1.1:
        parts.append(f"{1 / scale:.1f} times too small")
    return f"{', '.join(parts)}." if parts else "spot on."


def _off(error: float, unit: str, before: str, after: str) -> str:
    if abs(error) < 0.03:
        return ""
    return f"{abs(100 * error):.0f} % of the image's {unit} too {'far ' if before == 'left' else ''}" + (
        before if error < 0 else after
    )

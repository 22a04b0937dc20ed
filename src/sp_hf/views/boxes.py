"""Crop boxes drawn at random, in the image's normalised coordinates.

Letters: B images, V views of one image, T candidates.

Boxes are drawn as torchvision's ``RandomResizedCrop`` draws them (after Szegedy et al. 2014, arXiv:1409.4842): area
uniform, log of the aspect ratio uniform, the first of ten candidates that fits; if none does, the largest central crop
whose aspect ratio is the nearest one allowed. Both ranges are meant in the true image's pixels. Positions are
continuous, not rounded to pixels. With a margin, all of this happens in the image less its borders.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .keyed_random import uniform
from .spec import ViewSpec

_CANDIDATES = 10
BOX_NUMBERS = 2 * _CANDIDATES + 2  # uniform numbers that a box takes


def sample_boxes(keys: Tensor, stream: str, spec: ViewSpec, aspects: Tensor) -> Tensor:
    """Boxes of a spec's views: keys int64 [B], aspects float [B] to [B, V, 4] cxcywh."""
    return boxes_from(uniform(keys, stream, (spec.count, BOX_NUMBERS)), spec, aspects)


def boxes_from(u: Tensor, spec: ViewSpec, aspects: Tensor) -> Tensor:
    """Boxes of V views, from uniform numbers in [0, 1): [B, V, 2T + 2], T candidates, to [B, V, 4] cxcywh.

    ``aspects`` are of what the boxes lie in: of the images, [B], or of each view's parent, [B, V].
    """
    image_aspect = aspects.float().view(len(aspects), -1, 1)  # [B, 1 or V, 1]
    room = 1 - 2 * spec.margin  # side of the region that boxes lie in
    area = spec.area[0] + (spec.area[1] - spec.area[0]) * u[..., :_CANDIDATES]  # [B, V, T]
    if spec.aspect is None:
        relative = torch.ones_like(area)  # aspect ratio of the box in the canvas
    else:
        low, high = (math.log(ratio) for ratio in spec.aspect)
        relative = (low + (high - low) * u[..., _CANDIDATES:-2]).exp() / image_aspect
    candidates = torch.stack([(area * relative).sqrt(), (area / relative).sqrt()], dim=-1)  # [B, V, T, 2]
    fits = (candidates <= room).all(-1)  # [B, V, T]
    fitted = fits.any(-1, keepdim=True)  # [B, V, 1]
    first = fits.int().argmax(-1)[..., None, None].expand(-1, -1, 1, 2)
    sizes = candidates.gather(2, first)[:, :, 0]  # [B, V, 2], in image widths and heights
    if spec.aspect is not None:
        sizes = torch.where(fitted, sizes, room * _largest_box(image_aspect, spec.aspect))
    position = torch.where(fitted, u[..., -2:], 0.5)
    return torch.cat([spec.margin + sizes / 2 + (room - sizes) * position, sizes], dim=-1)


def _largest_box(image_aspect: Tensor, aspect: tuple[float, float]) -> Tensor:
    """Size [..., 2] of the largest box whose aspect ratio is the allowed one nearest to the image's [..., 1]."""
    ratio = image_aspect.clamp(*aspect) / image_aspect
    return torch.cat([ratio, 1 / ratio], dim=-1).clamp(max=1)

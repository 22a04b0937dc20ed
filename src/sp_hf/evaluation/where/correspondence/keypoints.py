"""Keypoints of images: the middles of parts that can be told apart, and pairs of images that share them.

Letters: K keypoints of an image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....data.annotations import decode_annotation

_SEEN = 0.2  # of a part's box that its pixels must take; a ring takes two fifths


class Keypoints(NamedTuple):
    """Of one image.

    Args:
        points: {part: (x, y)}, in image widths and heights.
        extent: (width, height) of the box around all parts, in image widths and heights.
    """

    points: dict[int, tuple[float, float]]
    extent: tuple[float, float]

    def of(self, parts: Sequence[int]) -> Tensor:
        """float32 [K, 2]."""
        return torch.tensor([self.points[part] for part in parts], dtype=torch.float32).reshape(-1, 2)


def keypoints_of(parts: Sequence[Mapping[str, Any]], segmentation: Any | None = None) -> Keypoints:
    """The keypoints of a row: parts that are there once, and seen.

    Args:
        parts: ``{"part": id, "box": [cx, cy, w, h]}`` each, normalised.
        segmentation: cell of an annotation whose ids are the parts'; ``None``: all parts are taken to be seen.
    """
    if not parts:
        return Keypoints({}, (0.0, 0.0))
    boxes = np.array([part["box"] for part in parts], np.float64)
    low, high = (boxes[:, :2] - boxes[:, 2:] / 2).min(0), (boxes[:, :2] + boxes[:, 2:] / 2).max(0)
    ids = None if segmentation is None else decode_annotation(segmentation)
    times = Counter(part["part"] for part in parts)
    points = {}
    for part, box in zip(parts, boxes, strict=True):
        if times[part["part"]] == 1 and (ids is None or _is_seen(ids, part["part"], box)):
            points[int(part["part"])] = (float(box[0]), float(box[1]))
    return Keypoints(points, (float(high[0] - low[0]), float(high[1] - low[1])))


def _is_seen(ids: np.ndarray, part: int, box: np.ndarray) -> bool:
    height, width = ids.shape
    return (ids == part).sum() >= _SEEN * box[2] * width * box[3] * height


def pairs_of(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Each image with the next one of its class (the last with the first): (source, target) indices.

    Classes of one image, and images without a label (-1), have no pair.
    """
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        if label >= 0:
            members.setdefault(int(label), []).append(index)
    following: dict[int, int] = {}
    for rows in members.values():
        if len(rows) > 1:
            following |= dict(zip(rows, [*rows[1:], rows[0]], strict=True))
    return sorted(following.items())

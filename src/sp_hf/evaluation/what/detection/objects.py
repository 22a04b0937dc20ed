"""The objects of an image, as detectors are asked for them: classes, boxes, and masks where there are any.

Two layouts of a row are read:

- ``objects``, a column of ``bbox`` and ``category`` (or ``label``), lists or one record an object, as datasets on the
  Hub in COCO's style have it; optionally ``iscrowd`` (left out of training, and neither asked nor counted against a
  model) and ``segmentation`` (COCO's polygons in px, or run lengths), from which masks are made;
- PartScenes' ``part_boxes`` with its ``segmentation``: pieces of which less than 5 % of the box is seen are left out.
  Of two pieces of one kind, a pixel belongs to the one whose middle is nearer in units of its box.

Letters: m objects, (H, W) size of the image in px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np

from ....data.annotations import decode_annotation
from ....errors import DataError, InputError
from .coco import encode_masks, polygon_masks

BOX_FORMATS = ("xywh", "xyxy")
_CATEGORIES = ("category", "label", "category_id")
_BOXES = ("bbox", "box", "boxes", "bboxes")
_SEEN = 0.05


@dataclasses.dataclass(frozen=True)
class ImageObjects:
    """The objects of one image.

    Args:
        size: (H, W).
        boxes: float32 [m, 4], (cx, cy, w, h) as fractions of the image.
        labels: int64 [m].
        crowd: bool [m], neither asked nor counted.
        masks: run lengths of each object, as pycocotools has them; ``None`` where there are none.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    masks: tuple[dict[str, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def read_objects(
    value: Any, size: tuple[int, int], box_format: str = "xywh", *, with_masks: bool = False
) -> ImageObjects:
    """Of a cell of an ``objects`` column.

    Args:
        value: mapping of lists, or list of mappings.
        size: (H, W) of the image.
        box_format: of ``bbox``, in px: ``"xywh"`` (corner and size) or ``"xyxy"`` (two corners).
        with_masks: read ``segmentation``.

    Raises:
        DataError: a field is missing, or lists differ in length.
        ValueError: a box that is empty or outside of the image.
    """
    fields = _fields(value)
    boxes = np.array(_field(fields, _BOXES), np.float64).reshape(-1, 4)
    labels = np.array(_field(fields, _CATEGORIES), np.int64).reshape(-1)
    crowd = np.array(fields.get("iscrowd") or np.zeros(len(labels)), bool).reshape(-1)
    if not len(boxes) == len(labels) == len(crowd):
        raise DataError(f"objects: {len(boxes)} boxes, {len(labels)} categories and {len(crowd)} iscrowd; give equally")
    masks = None
    if with_masks:
        if len(labels) and "segmentation" not in fields:
            raise DataError(f"objects have no segmentation, of which masks are made; they have: {', '.join(fields)}")
        masks = tuple(polygon_masks(fields.get("segmentation") or [], size))
    corners = boxes.copy()
    if box_format == "xywh":
        corners[:, 2:] += corners[:, :2]
    corners = corners / np.array([size[1], size[0]] * 2)
    _check_inside(corners, boxes, size, box_format)
    corners = corners.clip(0, 1)
    kept = (corners[:, 2:] > corners[:, :2]).all(1)  # datasets hold a few boxes without any extent
    centred = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    if masks is not None:
        masks = tuple(mask for mask, keep in zip(masks, kept, strict=True) if keep)
    return ImageObjects(size, centred[kept].astype(np.float32), labels[kept], crowd[kept], masks)


def read_parts(parts: Sequence[Mapping[str, Any]], segmentation: Any) -> ImageObjects:
    """Of a row of PartScenes: its ``part_boxes`` and ``segmentation``; labels are 0 for the first part."""
    ids = decode_annotation(segmentation)
    height, width = ids.shape
    masks, boxes, labels = [], [], []
    for index, part in enumerate(parts):
        mask = _mask_of(index, parts, ids)
        if mask.sum() >= _SEEN * part["box"][2] * width * part["box"][3] * height and mask.any():
            masks.append(mask)
            boxes.append(part["box"])
            labels.append(part["part"] - 1)
    return ImageObjects(
        (height, width),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.zeros(len(labels), bool),
        tuple(encode_masks(np.array(masks, bool).reshape(-1, height, width))),
    )


def _mask_of(index: int, parts: Sequence[Mapping[str, Any]], ids: np.ndarray) -> np.ndarray:
    """bool [H, W]: the pixels of one piece."""
    height, width = ids.shape
    part = parts[index]["part"]
    same = [i for i, other in enumerate(parts) if other["part"] == part]
    mask = ids == part
    if len(same) == 1:
        return mask
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    distances = []
    for other in same:
        cx, cy, w, h = parts[other]["box"]
        distances.append(np.hypot((x - cx) / w, (y - cy) / h))
    return mask & (np.argmin(distances, axis=0) == same.index(index))


def category_names(feature: Any) -> list[str] | None:
    """Names of the classes of an ``objects`` column, where its type tells them."""
    while isinstance(feature, (datasets.List, datasets.LargeList)):
        feature = feature.feature
    if not isinstance(feature, Mapping):
        return None
    kind = next((feature[name] for name in _CATEGORIES if name in feature), None)
    while isinstance(kind, (datasets.List, datasets.LargeList)):
        kind = kind.feature
    return list(kind.names) if isinstance(kind, datasets.ClassLabel) else None


def check_box_format(box_format: str) -> None:
    """Raise ValueError unless it is one that is known."""
    if box_format not in BOX_FORMATS:
        raise InputError(f"box_format is {box_format!r}; it must be one of {', '.join(BOX_FORMATS)} (in px)")


def _fields(value: Any) -> Mapping[str, Any]:
    """A mapping of lists, also of a list of mappings."""
    if isinstance(value, Mapping):
        return value
    rows = list(value or [])
    if not all(isinstance(row, Mapping) for row in rows):
        raise DataError(f"objects must be a mapping of lists or a list of mappings; got {type(value).__name__}")
    if not rows:
        return {"bbox": [], "category": []}
    return {name: [row[name] for row in rows] for name in rows[0]}


def _field(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    value = next((fields[name] for name in names if name in fields), None)
    if value is None:
        raise DataError(f"objects need a field {' or '.join(names)}; they have: {', '.join(fields) or 'none'}")
    return value


def _check_inside(corners: np.ndarray, boxes: np.ndarray, size: tuple[int, int], box_format: str) -> None:
    """Boxes may lie a little over the border; far over it they are of another format."""
    bad = ((corners < -0.05) | (corners > 1.05)).any(1) | (corners[:, 2:] < corners[:, :2]).any(1)
    if bad.any():
        raise InputError(
            f"the box {boxes[bad][0].round(1).tolist()} does not lie in its image of {size[1]}x{size[0]} px as"
            f" {box_format}; is it in px, and should the box format be another of {', '.join(BOX_FORMATS)}?"
        )

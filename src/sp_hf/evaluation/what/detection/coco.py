"""COCO's matching of detections to objects, and its masks as run lengths, by pycocotools (Lin et al. 2014, 1405.0312).

pycocotools is optional: ``pip install pycocotools``.

Letters: n images, m objects, d detections of a class, T thresholds of IoU, (H, W) size of an image in px.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ....errors import PackageError

if TYPE_CHECKING:
    from .heads import Answers
    from .objects import ImageObjects


class Matches(NamedTuple):
    """The detections of one class in all images, best first.

    Args:
        true: bool [T, d], matched to an object of their class.
        false: bool [T, d], not matched; those matched to a crowd are neither.
        image: int64 [d].
        objects: float64 [n], how many objects of the class each image has.
    """

    true: Tensor
    false: Tensor
    image: Tensor
    objects: Tensor


def require_pycocotools() -> None:
    """Raise PackageError, with the line that installs it, where pycocotools is missing."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise PackageError(
            "COCO's average precision needs pycocotools, which is not installed: pip install pycocotools"
        ) from error


def encode_masks(masks: np.ndarray) -> list[dict[str, Any]]:
    """Run lengths of bool [m, H, W]."""
    from pycocotools import mask as coco_mask

    return [coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


def decode_masks(lengths: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """bool [m, H, W] of run lengths; ``size`` is (H, W)."""
    from pycocotools import mask as coco_mask

    return np.array([coco_mask.decode(one) for one in lengths], bool).reshape(-1, *size)


def polygon_masks(segmentations: Sequence[Any], size: tuple[int, int]) -> list[dict[str, Any]]:
    """Run lengths of COCO's segmentations: lists of polygons [x, y, x, y, ...] in px, or run lengths themselves."""
    from pycocotools import mask as coco_mask

    height, width = size
    masks = []
    for one in segmentations:
        if isinstance(one, Mapping):
            counts = one["counts"]
            masks.append(coco_mask.frPyObjects(dict(one), height, width) if isinstance(counts, list) else dict(one))
        else:
            polygons = [list(map(float, polygon)) for polygon in one if len(polygon) >= 6]
            empty = np.zeros((1, height, width), bool)
            rles = coco_mask.frPyObjects(polygons, height, width) if polygons else encode_masks(empty)
            masks.append(coco_mask.merge(rles))
    return masks


def match(
    answers: Sequence[Answers], truth: Sequence[ImageObjects], classes: int, kind: Literal["bbox", "segm"]
) -> list[Matches]:
    """Detections matched to objects as COCO does, over all sizes, at most 100 detections an image.

    Args:
        answers: of n images.
        truth: of the same.
        classes: labels are 0 to this.
        kind: what overlaps: boxes or masks.

    Returns:
        One for each class.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        asked = COCO()
        asked.dataset = _dataset(truth, classes, kind)
        asked.createIndex()
        given = _results(answers, truth, kind)
        evaluation = COCOeval(asked, asked.loadRes(given) if given else COCO(), kind)
        evaluation.params.imgIds = list(range(len(truth)))
        evaluation.params.catIds = list(range(classes))
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    n, thresholds = len(truth), len(evaluation.params.iouThrs)
    return [_matches(evaluation.evalImgs[c * n : (c + 1) * n], thresholds) for c in range(classes)]


def _matches(images: Sequence[Mapping[str, Any] | None], thresholds: int) -> Matches:
    """Of one class; an image in which it neither is nor is seen has ``None``."""
    objects = torch.zeros(len(images), dtype=torch.float64)
    scores, places = [np.zeros(0)], [np.zeros(0, np.int64)]
    matched, ignored = [np.zeros((thresholds, 0), bool)], [np.zeros((thresholds, 0), bool)]
    for place, image in enumerate(images):
        if image is None:
            continue
        objects[place] = float((np.asarray(image["gtIgnore"]) == 0).sum())
        scores.append(np.asarray(image["dtScores"], np.float64))
        places.append(np.full(len(image["dtScores"]), place))
        matched.append(np.asarray(image["dtMatches"]).reshape(thresholds, -1) != 0)
        ignored.append(np.asarray(image["dtIgnore"]).reshape(thresholds, -1) != 0)
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    is_matched, is_ignored = np.concatenate(matched, 1)[:, order], np.concatenate(ignored, 1)[:, order]
    return Matches(
        torch.from_numpy(is_matched & ~is_ignored),
        torch.from_numpy(~is_matched & ~is_ignored),
        torch.from_numpy(np.concatenate(places)[order]),
        objects,
    )


def _dataset(truth: Sequence[ImageObjects], classes: int, kind: str) -> dict[str, Any]:
    """In COCO's format; annotations are numbered from 1, as 0 stands for no match."""
    annotations: list[dict[str, Any]] = []
    for image, objects in enumerate(truth):
        boxes = _in_px(objects.boxes, objects.size)
        for index in range(len(objects)):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": int(objects.labels[index]),
                "bbox": boxes[index],
                "area": boxes[index][2] * boxes[index][3],
                "iscrowd": int(objects.crowd[index]),
            }
            if kind == "segm":
                assert objects.masks is not None  # as of every side that a task of masks has opened
                annotation["segmentation"] = objects.masks[index]
            annotations.append(annotation)
    sizes = [{"id": i, "height": one.size[0], "width": one.size[1]} for i, one in enumerate(truth)]
    return {"images": sizes, "annotations": annotations, "categories": [{"id": c} for c in range(classes)]}


def _results(answers: Sequence[Answers], truth: Sequence[ImageObjects], kind: str) -> list[dict[str, Any]]:
    results = []
    for image, (answer, objects) in enumerate(zip(answers, truth, strict=True)):
        if kind == "bbox":
            assert answer.boxes is not None
            shapes: list[Any] = _in_px(answer.boxes.numpy(), objects.size)
        else:
            assert answer.masks is not None
            shapes = encode_masks(answer.masks.numpy())
        for score, label, shape in zip(answer.scores.tolist(), answer.labels.tolist(), shapes, strict=True):
            name = "bbox" if kind == "bbox" else "segmentation"
            results.append({"image_id": image, "category_id": label, "score": score, name: shape})
    return results


def _in_px(boxes: np.ndarray, size: tuple[int, int]) -> list[list[float]]:
    """From (cx, cy, w, h) as fractions to corner, width and height in px."""
    scale = np.array([size[1], size[0]] * 2, np.float64)
    centred = boxes.astype(np.float64)
    return (np.concatenate([centred[:, :2] - centred[:, 2:] / 2, centred[:, 2:]], 1) * scale).tolist()

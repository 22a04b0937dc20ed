"""Metrics of predictions a pixel: intersection over union, and the errors of depth.

    IoU of a class = sum over images of |predicted and true| / sum over images of |predicted or true|        (pixels)
    mIoU           = mean of that over the classes that the true annotations hold        (Everingham et al. 2010, 2015)

    AbsRel = mean |p - d| / d      RMSE = root mean (p - d)^2      delta = share of pixels with max(p / d, d / p) < 1.25

over all valid pixels of all images (Eigen et al. 2014, arXiv:1406.2283, section 4). Scale-aligned: p is first
multiplied by median(d) / median(p) of the image's valid pixels (Zhou et al. 2017, arXiv:1704.07813, section 4.1).

Letters: n images, C classes, H, W pixels, p predicted and d true depth in metres.
"""

from __future__ import annotations

import numpy as np
import torch

from ...measure import Measure

DELTA = 1.25


def intersection_and_union(predicted: np.ndarray, truth: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of one image, by class.

    Args:
        predicted: int64 [H, W] in 0 .. C-1.
        truth: int64 [H, W], -1 for void: such pixels do not count.
        classes: C.

    Returns:
        Intersections and unions, int64 [C].
    """
    known = truth >= 0
    confusion = np.bincount(truth[known] * classes + predicted[known], minlength=classes**2).reshape(classes, classes)
    intersection = confusion.diagonal()
    return intersection, confusion.sum(0) + confusion.sum(1) - intersection


def mean_iou(sums: np.ndarray, presence: np.ndarray, chance: float | None = None) -> Measure:
    """mIoU, whose groups are the classes that are there.

    Args:
        sums: [2, n, C], intersections and unions.
        presence: bool [C], classes that the true annotations hold.
        chance: what guessing gets.
    """
    intersections, unions = torch.from_numpy(sums[:, :, presence])
    return Measure(intersections, unions, percent=True, chance=chance)


def pixel_accuracy(sums: np.ndarray, chance: float | None = None) -> Measure:
    """Share of pixels that are right, of the same intersections and unions [2, n, C]."""
    of_image = sums.sum(2)
    pixels = of_image.sum(0) / 2  # a right pixel is in one intersection and one union, a wrong one in two unions
    return Measure(torch.from_numpy(of_image[0]), torch.from_numpy(pixels), percent=True, chance=chance)


def depth_sums(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of the valid pixels of one image.

    Args:
        predicted, truth: [pixels] in metres, positive.

    Returns:
        float64 [4]: sums of |p - d| / d, of (p - d)^2 and of (max(p / d, d / p) < 1.25), and the number of pixels.
    """
    p, d = predicted.astype(np.float64), truth.astype(np.float64)
    close = np.maximum(p / d, d / p) < DELTA
    return np.array([(np.abs(p - d) / d).sum(), np.square(p - d).sum(), close.sum(), len(d)], np.float64)


def scale_aligned(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The predictions of one image's valid pixels times median(d) / median(p)."""
    return predicted * (np.median(truth) / np.median(predicted)) if len(truth) else predicted


def depth_measures(sums: np.ndarray, prefix: str = "", chance: np.ndarray | None = None) -> dict[str, Measure]:
    """The metrics of sums [n, 4] of :func:`depth_sums`; ``chance``: those of guessing, [n, 4]."""
    guess = {} if chance is None else {key: measure.value for key, measure in depth_measures(chance).items()}
    absolute, square, close, pixels = torch.from_numpy(sums).unbind(1)
    measures = {
        "abs_rel": Measure(absolute, pixels, higher_is_better=False, chance=guess.get("abs_rel")),
        "rmse": Measure(square, pixels, form="root", higher_is_better=False, chance=guess.get("rmse")),
        "delta_1.25": Measure(close, pixels, percent=True, chance=guess.get("delta_1.25")),
    }
    return {prefix + name: measure for name, measure in measures.items()}

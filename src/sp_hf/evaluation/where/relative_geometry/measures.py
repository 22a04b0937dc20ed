"""The metrics of predicted relations, over all pairs and by how far apart or how overlapping the two crops are.

Letters: n images, P pairs of an image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....views.geometry import apply_relation, box_iou, log_scale, relation
from ...measure import Measure

DISTANCE_EDGES = (0.0, 0.15, 0.3, 0.45, float("inf"))
"""Of the centres, in image widths and heights."""
OVERLAP_EDGES = (0.0, 0.1, 0.3, 1.0)
"""IoU of the two true boxes; a bin of its own holds those that do not overlap."""

_OF_BINS = ("r2_position", "r2_scale", "mae_x", "mae_y", "iou")


def relation_measures(
    first: Tensor, second: Tensor, predicted: Tensor, counted: Tensor | None = None
) -> dict[str, Measure]:
    """The metrics of predicted relations, pooled over the pairs, as sums over images.

    ``r2_position`` is of x and y at once, residual over total of both; ``mae_x`` and ``mae_y`` are in image widths and
    heights; ``iou`` is of the predicted second box with the true one, the first box given, and its chance is that of
    answering with the first box.

    Args:
        first, second: [n, P, 4] boxes, cxcywh; both orders of every pair.
        predicted: [n, P, 4] relations in image units.
        counted: bool [n, P], pairs that count, both orders alike; ``None``: all.
    """
    weight = torch.ones(first.shape[:2], dtype=torch.float64) if counted is None else counted.double()
    truth, answer = _targets(relation(first, second)), _targets(predicted)  # [n, P, 3]
    error = answer - truth
    pairs = weight.sum(1)  # [n]
    residual = (weight[..., None] * error.square()).sum(1)  # [n, 3]
    # With both orders of every pair the mean of each target is exactly 0: squares are deviations from the mean.
    total = (weight[..., None] * truth.square()).sum(1)
    absolute = (weight[..., None] * error.abs()).sum(1)
    iou = (weight * box_iou(apply_relation(first, predicted), second)).sum(1)
    floor = float((weight * box_iou(first, second)).sum() / pairs.sum())

    def r2(*targets: int) -> Measure:
        columns = list(targets)
        return Measure(residual[:, columns].sum(1), total[:, columns].sum(1), form="complement", chance=0.0)

    measures = {"r2_position": r2(0, 1), "r2_scale": r2(2), "r2_x": r2(0), "r2_y": r2(1)}
    for column, name in enumerate(("mae_x", "mae_y", "mae_scale")):
        measures[name] = Measure(absolute[:, column], pairs, higher_is_better=False)
    return measures | {"iou": Measure(iou, pairs, chance=floor)}


def _targets(relations: Tensor) -> Tensor:
    """dx, dy, log scale: [..., 4] to float64 [..., 3]."""
    relations = relations.double()
    return torch.cat([relations[..., :2], log_scale(relations)[..., None]], dim=-1)


def binned_metrics(first: Tensor, second: Tensor, predicted: Tensor, seed: int) -> dict[str, list[dict[str, Any]]]:
    """The metrics by distance of the centres and by IoU of the two true boxes, as JSON can hold them.

    An R2 is within its bin, 1 - residual / total of the bin's own pairs: that of near pairs is not helped by telling
    them from far ones.

    Args:
        first, second, predicted: as for :func:`relation_measures`.
        seed: of the intervals.

    Returns:
        ``{"distance": [bin], "overlap": [bin]}``, a bin being ``{low, high, pairs, images, <metric>: {value, low,
        high}}`` without metrics where it has no pairs; low < quantity <= high (``None``: no end), and 0 to 0 are the
        pairs that do not overlap.
    """
    distance = (second[..., :2] - first[..., :2]).norm(dim=-1)  # [n, P]
    overlap = box_iou(first, second)
    ranges = {
        "distance": (distance, list(zip(DISTANCE_EDGES[:-1], DISTANCE_EDGES[1:], strict=True))),
        "overlap": (overlap, [(0.0, 0.0), *zip(OVERLAP_EDGES[:-1], OVERLAP_EDGES[1:], strict=True)]),
    }
    return {
        name: [_bin(first, second, predicted, values, low, high, seed) for low, high in bins]
        for name, (values, bins) in ranges.items()
    }


def _bin(
    first: Tensor, second: Tensor, predicted: Tensor, values: Tensor, low: float, high: float, seed: int
) -> dict[str, Any]:
    counted = values == 0 if low == high else (values > low) & (values <= high)
    bins: dict[str, Any] = {
        "low": low,
        "high": None if high == float("inf") else high,
        "pairs": int(counted.sum()),
        "images": int(counted.any(1).sum()),
    }
    if counted.any():
        measures = relation_measures(first, second, predicted, counted)
        for name in _OF_BINS:
            estimate = measures[name].estimate(seed)
            bins[name] = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return bins

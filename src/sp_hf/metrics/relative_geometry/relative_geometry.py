"""Relative geometry: how well position and scale of a crop are predicted, seen from another of its image.

A box is (cx, cy, w, h) in the image's normalised coordinates: x in image widths, y in image heights, y downwards. The
relation of a second box to a first one is

    dx = (cx2 - cx1) / ux      dy = (cy2 - cy1) / uy      lw = ln(w2 / w1)      lh = ln(h2 / h1)

with (ux, uy) = (1, 1) in units of the image, (w1, h1) in units of the first view. Scale is (lw + lh) / 2, the log ratio
of the square roots of the areas. Every R2 is 1 - residual / total, the total taken about the mean of the true values
and both sums over all pairs; for position, over dx and dy together. These are the targets of Spatial Prediction (Shen
et al. 2026, arXiv:2605.09963).

Letters: n pairs.
"""

import datasets
import evaluate
import numpy as np

_CITATION = """\
@article{shen2026spatial,
  title   = {Learning to Perceive ``Where'': Spatial Pretext Tasks for Robust Self-Supervised Learning},
  author  = {Shen, Yang and Cai, Yusen and Hryniewska-Guzik, Weronika and Lin, Qing and Zhang, Mengmi},
  journal = {arXiv preprint arXiv:2605.09963},
  year    = {2026}
}
"""

_INPUTS = """
Args:
    predictions: n relations (dx, dy, ln w-ratio, ln h-ratio) of the second box to the first.
    references: n second boxes (cx, cy, w, h), in [0, 1] for boxes within the image.
    first_boxes: n first boxes (cx, cy, w, h).
    units: of dx and dy: "image" (widths and heights of the image, the default) or "view" (those of the first box).

Returns:
    r2_x, r2_y, r2_position, r2_scale: 1 is perfect, 0 is what the best constant reaches.
    mae_x, mae_y: mean absolute error in the given units.
    mae_scale: mean absolute error of the log ratio of sizes.
    iou: mean intersection over union of the predicted second box with the true one.
    chance_iou: that of answering with the first box, whatever the features say.

Raises:
    ValueError: no pairs, rows that are not of four finite numbers, sides that are not positive, true values that are
        all the same (their R2 is not defined), or unknown units.
"""

_ROUNDING = 1e-6  # of an image, or of a logarithm: a spread below this says nothing in float32
_LARGEST_LOG = 100.0  # e^100: no crops differ in size by as much, and beyond it areas overflow


class RelativeGeometry(evaluate.Metric):
    """Relative position and scale of pairs of crops."""

    def _info(self) -> evaluate.MetricInfo:
        row = datasets.List(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": row, "references": row, "first_boxes": row}),
            reference_urls=["https://arxiv.org/abs/2605.09963"],
            license="apache-2.0",
        )

    def _compute(
        self,
        *,
        predictions: list,
        references: list,
        first_boxes: list,
        units: str = "image",
    ) -> dict[str, float]:
        predicted = _rows("predictions", predictions)
        first, second = _boxes("first_boxes", first_boxes), _boxes("references", references)
        if not len(predicted):
            raise ValueError("there are no pairs: give one prediction, reference and first box, or more")
        far = np.flatnonzero(np.abs(predicted[:, 2:]).max(1) > _LARGEST_LOG)
        if len(far):
            raise ValueError(
                f"predictions[{far[0]}] is {predictions[far[0]]}: a log ratio beyond {_LARGEST_LOG:g} either way is no"
                " size; give natural logarithms of the ratios of widths and heights"
            )
        return relative_geometry(first, second, predicted, units)


def relative_geometry(first: np.ndarray, second: np.ndarray, predicted: np.ndarray, units: str) -> dict[str, float]:
    """The metrics, from float64 [n, 4] first and second boxes and predicted relations."""
    unit = _unit(first, units)  # [n, 2]
    truth = np.hstack([(second[:, :2] - first[:, :2]) / unit, np.log(second[:, 2:] / first[:, 2:])])  # [n, 4]
    truth, guess = _position_and_scale(truth), _position_and_scale(predicted)  # [n, 3]
    _check_spread(truth)
    residual = np.square(guess - truth).sum(0)  # [3]
    total = np.square(truth - truth.mean(0)).sum(0)
    error = np.abs(guess - truth).mean(0)
    box = np.hstack([first[:, :2] + predicted[:, :2] * unit, first[:, 2:] * np.exp(predicted[:, 2:])])
    metrics = {
        "r2_x": 1 - residual[0] / total[0],
        "r2_y": 1 - residual[1] / total[1],
        "r2_position": 1 - residual[:2].sum() / total[:2].sum(),
        "r2_scale": 1 - residual[2] / total[2],
        "mae_x": error[0],
        "mae_y": error[1],
        "mae_scale": error[2],
        "iou": box_iou(box, second).mean(),
        "chance_iou": box_iou(first, second).mean(),
    }
    return {name: float(value) for name, value in metrics.items()}


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union, row by row: [n, 4] and [n, 4] cxcywh to [n]."""
    low = np.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = np.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    intersection = np.clip(high - low, 0, None).prod(1)
    return intersection / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - intersection)


def _unit(first: np.ndarray, units: str) -> np.ndarray:
    if units not in ("image", "view"):
        raise ValueError(f"units is {units!r}; it must be 'image' or 'view'")
    return first[:, 2:] if units == "view" else np.ones_like(first[:, 2:])


def _position_and_scale(relations: np.ndarray) -> np.ndarray:
    """(dx, dy, log scale): [n, 4] to [n, 3]."""
    return np.column_stack([relations[:, :2], relations[:, 2:].mean(1)])


def _check_spread(truth: np.ndarray) -> None:
    for name, spread in zip(("dx", "dy", "scale"), np.ptp(truth, axis=0), strict=True):
        if spread <= _ROUNDING:
            raise ValueError(
                f"the true {name} is the same for all {len(truth)} pairs (to within {_ROUNDING:g}), so its R2 is not"
                " defined; give pairs that differ in it"
            )


def _rows(name: str, rows: list) -> np.ndarray:
    """Float64 [n, 4] of finite numbers."""
    for index, row in enumerate(rows):
        if row is None or len(row) != 4:
            raise ValueError(f"{name}[{index}] is {row}; it must be four numbers")
    values = np.array(rows, dtype=np.float64).reshape(-1, 4)
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        raise ValueError(f"{name}[{bad[0]}] is {rows[bad[0]]}; its numbers must be finite")
    return values


def _boxes(name: str, rows: list) -> np.ndarray:
    """Float64 [n, 4] with positive sides."""
    boxes = _rows(name, rows)
    bad = np.flatnonzero((boxes[:, 2:] <= 0).any(1))
    if len(bad):
        raise ValueError(
            f"{name}[{bad[0]}] is {rows[bad[0]]}; a box is (cx, cy, w, h), and its width and height must be above 0"
        )
    return boxes

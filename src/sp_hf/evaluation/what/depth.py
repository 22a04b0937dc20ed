"""Monocular depth by a linear regression of patch tokens.

Images, tokens and the sample of the fit are those of :mod:`sp_hf.evaluation.what.dense.dense_task`, metrics those of
:mod:`sp_hf.evaluation.what.dense.metrics`. A token's target is the mean natural log of the depths (metres) of its
pixels, its weight w the fraction of them that are valid: 0 < depth <= ``max``.

    min over W, b of   sum over tokens of w (W x + b - target)^2  +  penalty |W|^2

in closed form (:mod:`sp_hf.evaluation.probes.ridge`); the penalty is chosen on the held-out images, and the fit then
repeated on all. Predicted logs are upsampled bilinearly to the annotation's own resolution, exponentiated, and
clipped to the range of valid depths (0.001 m to ``max``). Only valid pixels count. Chance is what one depth
everywhere gets: the geometric mean of the training tokens'.

Deviation from DINOv2's linear evaluation of depth (Oquab et al. 2023, arXiv:2304.07193, section 7.4): log depth is
regressed in closed form, from patch tokens alone, where they classify 256 bins of depth from patch and class tokens
by gradient descent.

Letters: n images, N tokens of an image, D feature size, t tokens of the fit, H, W pixels, h, w rows and columns of
tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ...data.annotations import AnnotationError
from ...errors import InputError
from ..model import EvaluatedModel
from ..probes.ridge import fit_ridge
from ..task import Picture, TaskResult, once_a_task, option
from .dense.dense_task import (
    DenseSide,
    DenseTask,
    Tokens,
    TrainingTokens,
    check_count,
    patch_tokens,
    readable,
    training_tokens,
)
from .dense.metrics import depth_measures, depth_sums, scale_aligned
from .dense.patch_targets import token_means, upsampled
from .dense.pictures import Panel, draw_depth, shown, thumbnail

if TYPE_CHECKING:
    from ..data import EvaluationData

MIN_DEPTH = 1e-3  # metres; predictions below are clipped, as in Monodepth2 (Godard et al. 2019, arXiv:1806.01260)
MAX_DEPTH = 80.0


class DepthHead(NamedTuple):
    """A linear regression of log depth.

    Args:
        training: what it was fitted on.
        weight: float32 [D].
        bias: the weighted mean log depth of the tokens it was fitted on.
        penalty: chosen.
    """

    training: TrainingTokens
    weight: Tensor
    bias: float
    penalty: float

    def log_depth(self, tokens: Tensor) -> Tensor:
        """[..., D] to [...], natural log of metres."""
        return self.training.standardise(tokens) @ self.weight + self.bias


def fit_depth(training: TrainingTokens) -> DepthHead:
    """Weighted ridge regression; its targets are mean log depths [t, 1]."""
    x, y, root = training.x.double(), training.targets.double(), training.weights.double().sqrt()[:, None]
    total = root.square().sum()
    mean_x, mean_y = (root.square() * x).sum(0) / total, (root.square() * y).sum(0) / total
    weight, penalty = fit_ridge(root * (x - mean_x), root * (y - mean_y), training.held_out)
    bias = mean_y - mean_x @ weight
    return DepthHead(training, weight[:, 0].float(), float(bias), float(penalty))


class DepthRows(NamedTuple):
    """Rows whose annotation can be read and holds a valid depth."""

    train: list[int]
    validation: list[int]


@dataclasses.dataclass(frozen=True)
class Depth(DenseTask):
    """How far away each pixel is."""

    name: ClassVar[str] = "depth"
    hub_task: ClassVar[str] = "depth-estimation"
    headline: ClassVar[tuple[str, ...]] = ("abs_rel", "rmse", "delta_1.25", "aligned_abs_rel")
    target_columns: ClassVar[tuple[str, ...]] = ("depth", "depth_map")

    max: float = option(MAX_DEPTH, "metres; pixels farther away do not count")
    scale: float | None = option(None, "metres a unit of the annotation; default: 1 where it holds floats")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max <= MIN_DEPTH or (self.scale is not None and self.scale <= 0):
            raise InputError(
                f"depth_max is {self.max} and depth_scale is {self.scale}; depths end beyond {MIN_DEPTH} m, and a scale"
                " is positive"
            )

    def prepare(self, data: EvaluationData) -> None:
        """Every annotation is read once here."""
        self._rows(data)

    @once_a_task
    def _rows(self, data: EvaluationData) -> DepthRows:
        ranges = []
        for side in self.sides(data):
            valid = side.scan(lambda annotation: bool(self._valid(self.metres(annotation)).any()), data.progress)
            ranges.append([row for row, any_valid in valid.items() if any_valid])
            if not ranges[-1]:
                raise InputError(
                    f"no {side.name} annotation holds a depth of 0 to {self.max} m: see --depth_scale and --depth_max"
                )
        check_count(ranges[0], self.sides(data)[0], self.name)
        return DepthRows(*ranges)

    def metres(self, annotation: np.ndarray) -> np.ndarray:
        """float32 [H, W]."""
        if self.scale is None and annotation.dtype.kind != "f":
            raise AnnotationError(
                "depth annotations of whole numbers need --depth_scale, metres a unit: 0.001 for millimetres"
            )
        return annotation.astype(np.float32) * np.float32(self.scale or 1.0)

    def _valid(self, depth: np.ndarray) -> np.ndarray:
        return (depth > 0) & (depth <= self.max)  # NaN is neither

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        rows, (train, validation) = self._rows(data), self.sides(data)
        tokens = readable(patch_tokens(model, data, train.images, self.size), rows.train)

        def target(row: int) -> tuple[np.ndarray, np.ndarray]:
            depth = self.metres(train.annotation(row))
            valid = self._valid(depth)
            means, weights = token_means(np.log(depth, where=valid, out=np.zeros_like(depth)), valid, tokens.grid)
            return means[:, None], weights

        head = fit_depth(training_tokens(tokens, target, data.seed))
        asked = readable(patch_tokens(model, data, validation.images, self.size), rows.validation)
        sums, panels = self._compare(head, asked, validation, data.progress)
        measures = depth_measures(sums[0], chance=sums[2]) | depth_measures(sums[1], "aligned_", chance=sums[3])
        details = {
            "penalty": head.penalty,
            "data": {"train": train.images.images.description, "validation": validation.images.images.description},
            "train_images": len(tokens.rows),
            "train_tokens": len(head.training.x),
            "size": self.size or model.size,
            "grid": list(asked.grid),
        }
        return TaskResult(measures, details, {"panels": panels})

    def _compare(
        self, head: DepthHead, tokens: Tokens, side: DenseSide, progress: bool
    ) -> tuple[np.ndarray, list[Panel]]:
        """Sums [4, n, 4]: of the head, of the head aligned, of one depth everywhere, of that aligned; what is drawn."""
        weights, panels = head.training.weights, []
        constant = (weights @ head.training.targets[:, 0] / weights.sum()).exp().numpy()
        sums = np.zeros((4, len(tokens.rows), 4))
        rows = tqdm(tokens.rows.tolist(), desc=self.name, unit="image", disable=not progress, leave=False)
        for index, row in enumerate(rows):
            truth = self.metres(side.annotation(row))
            predicted = self._predict(head, tokens, index, truth.shape)
            valid = self._valid(truth)
            for guess, of_guess in ((predicted[valid], sums[:2]), (np.full(valid.sum(), constant), sums[2:])):
                of_guess[0, index] = depth_sums(guess, truth[valid])
                of_guess[1, index] = depth_sums(scale_aligned(guess, truth[valid]), truth[valid])
            if index in shown(len(tokens.rows)):
                known = np.where(valid, truth, np.nan)
                panels.append(Panel(thumbnail(side.images, row), truth.shape, predicted, known))
        return sums, panels

    def _predict(self, head: DepthHead, tokens: Tokens, index: int, shape: tuple[int, int]) -> np.ndarray:
        """float32 [H, W] in metres."""
        logs = head.log_depth(tokens.of(index)).unflatten(0, tokens.grid)[None]  # [1, h, w]
        return torch.cat([part[0] for _, part in upsampled(logs, shape)]).exp().clamp(MIN_DEPTH, self.max).numpy()

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        path = folder / "depth.png"
        draw_depth(path, {model: result.artifacts["panels"] for model, result in results.items()})
        return [Picture(path, "Depth of validation images by a linear regression of patch tokens")]

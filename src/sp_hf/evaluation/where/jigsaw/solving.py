"""Solve jigsaw puzzles of validation images by a probe fitted to training images, in either regime.

Letters: n images, T tiles of an image and cells, D feature size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ....views.photometric import Photometric
from ...features import ImageSample
from ...model import EvaluatedModel
from .features import apart_features, keys_of, place_features
from .permutations import optimal_assignment
from .probe import CellProbe
from .tiles import Puzzle

if TYPE_CHECKING:
    from ...data import EvaluationData


class Solution(NamedTuple):
    """Puzzles and what a probe made of them.

    Args:
        rows: int64 [n], which images of the sample.
        cells: int64 [n, T], where each tile belongs.
        predicted: int64 [n, T], where the probe puts it.
        penalty: of the probe.
    """

    rows: Tensor
    cells: Tensor
    predicted: Tensor
    penalty: float

    def places(self) -> Tensor:
        """Where the tile of each cell is put: int64 [n, T]."""
        return torch.empty_like(self.predicted).scatter_(1, self.cells, self.predicted)


class Shuffled(NamedTuple):
    """Images whose tiles are laid in the order of their puzzles.

    Args:
        rows: int64 [n], which images of the sample.
        cells: int64 [n, T], where the tile in each place belongs.
        features: float32 [n, T, D], of the tile in each place.
    """

    rows: Tensor
    cells: Tensor
    features: Tensor


def shuffled_images(model: EvaluatedModel, data: EvaluationData, part: ImageSample, puzzle: Puzzle) -> Shuffled:
    """The images of a sample that can be read, shuffled and encoded."""
    rows = data.features(model, part).rows
    cells = puzzle.order(keys_of(data, part)[rows])
    return Shuffled(rows, cells, place_features(model, data, part, puzzle, rows, cells.argsort(-1)))


def solve_whole(train: Shuffled, validation: Shuffled, seed: int) -> Solution:
    """By the patch tokens of shuffled images."""
    probe = CellProbe.fit(train.features, train.cells, seed=seed)
    predicted = optimal_assignment(probe.scores(validation.features))
    return Solution(validation.rows, validation.cells, predicted, probe.penalty)


def solve_apart(
    model: EvaluatedModel,
    data: EvaluationData,
    train: ImageSample,
    validation: ImageSample,
    puzzle: Puzzle,
    *,
    size: int,
    canvas_size: int,
    photometric: Photometric,
) -> Solution:
    """By tiles encoded apart. Arguments as for :func:`~sp_hf.evaluation.where.jigsaw.features.apart_features`."""

    def encoded(part: ImageSample) -> tuple[Tensor, Tensor]:
        return apart_features(model, data, part, puzzle, size=size, canvas_size=canvas_size, photometric=photometric)

    features, _ = encoded(train)  # [n, T, D], in the order of the cells
    probe = CellProbe.fit(features, torch.arange(puzzle.tiles).expand(features.shape[:2]), seed=data.seed)
    features, rows = encoded(validation)
    cells = puzzle.order(keys_of(data, validation)[rows])  # [n, T]
    handed_out = features.gather(1, cells[..., None].expand_as(features))
    return Solution(rows, cells, optimal_assignment(probe.scores(handed_out)), probe.penalty)

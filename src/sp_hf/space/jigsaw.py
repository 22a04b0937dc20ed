"""The Jigsaw tab: an image cut and shuffled, put back by a model and by the visitor, and classified before and after.

The puzzles are those of :mod:`sp_hf.evaluation.where.jigsaw.task`, the image seen whole. A puzzle is a pure function of
(grid, seed), so nothing is kept between requests: the visitor's arrangement is checked by cutting the image again.

**Confidence.** The probe's score s of tile i in cell j is, but for what no assignment can use, a log-likelihood. The
probability that i belongs in j is estimated by scaling exp(s) until rows and columns sum to 1 (Sinkhorn and Knopp 1967,
"Concerning nonnegative matrices and doubly stochastic matrices"): the same for scores that no assignment tells apart.

Letters: g cells a side, T = g^2 tiles, S side in px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.part_scenes.objects import CLASSES
from ..errors import InputError
from ..evaluation.model import EvaluatedModel
from ..evaluation.probes.linear import LinearProbe
from ..evaluation.where.jigsaw.features import patch_grid
from ..evaluation.where.jigsaw.permutations import optimal_assignment
from ..evaluation.where.jigsaw.probe import CellProbe
from ..evaluation.where.jigsaw.tiles import Puzzle, fill, lay, token_weights
from ..evaluation.whole_images import encode_pixels
from ..views.keyed_random import sample_keys
from .probes import puzzle as puzzle_of
from .uploads import SHOWN, Upload

GRIDS = (2, 3, 4)
_ROUNDS = 200


@dataclasses.dataclass(frozen=True)
class Cut:
    """An image that is cut and shuffled.

    Args:
        puzzle: how.
        key: int64 [1].
        cells: int64 [T], the cell in which the tile that lies in each place belongs.
    """

    puzzle: Puzzle
    key: Tensor
    cells: Tensor

    @classmethod
    def of(cls, grid: int, seed: int) -> Cut:
        """The puzzle of a seed; never in order already.

        Raises:
            ValueError: a grid that is not offered, or a negative seed.
        """
        if grid not in GRIDS:
            raise InputError(f"The grid is {grid}; it must be one of {', '.join(map(str, GRIDS))}.")
        if not 0 <= seed < 2**31:
            raise InputError(f"The seed is {seed}; it must be a whole number from 0 on.")
        cut, attempt = puzzle_of(grid), 0
        while True:
            key = sample_keys(seed, attempt, attempt + 1)
            cells = cut.order(key)[0]
            if (cells != torch.arange(cut.tiles)).any():
                return cls(cut, key, cells)
            attempt += 1

    def lay(self, square: Tensor, placed: Tensor) -> Tensor:
        """A picture uint8 [3, S, S] whose tile in each place is that which lay at ``placed`` [T] when shuffled."""
        places = torch.empty_like(placed)
        places[self.cells[placed]] = torch.arange(self.puzzle.tiles)
        return lay(self.puzzle, square[None], self.key, places[None])[0]

    @property
    def shuffled(self) -> Tensor:
        """Every tile where it lies."""
        return torch.arange(self.puzzle.tiles)

    @property
    def solution(self) -> Tensor:
        """Every tile where it belongs."""
        return self.cells.argsort()

    def right(self, placed: Tensor) -> Tensor:
        """bool [T]: in which places the right tile lies."""
        return self.cells[placed] == torch.arange(self.puzzle.tiles)


@dataclasses.dataclass(frozen=True)
class Solved:
    """What a model makes of a puzzle.

    Args:
        cut: the puzzle.
        placed: int64 [T], the tile in each place, by where it lay shuffled.
        confidence: float [T], of the tile in each place.
        said: what the classifier says, (class, probability), of the image whole, shuffled and put back.
    """

    cut: Cut
    placed: Tensor
    confidence: Tensor
    said: dict[str, tuple[str, float]]

    @property
    def right(self) -> int:
        """Tiles in their places."""
        return int(self.cut.right(self.placed).sum())


def solve(model: EvaluatedModel, probe: CellProbe, classifier: LinearProbe, upload: Upload, cut: Cut) -> Solved:
    """Put a shuffled image back."""
    square = upload.square(model.size)
    shuffled = cut.lay(square, cut.shuffled)
    encoding = encode_pixels(model, shuffled[None])
    weights = token_weights(cut.puzzle, model.size, patch_grid(model))
    tiles = weights @ encoding.patches[0].float().cpu()  # [T, D]
    scores = probe.scores(tiles[None])
    cells = optimal_assignment(scores)[0]  # of the tile in each place
    placed = cells.argsort()
    confidence = doubly_stochastic(scores[0])[placed, torch.arange(len(placed))]
    laid = fill(cut.puzzle, torch.stack([shuffled, cut.lay(square, placed)]))
    said = classify(model, classifier, torch.cat([square[None], laid]))
    return Solved(cut, placed, confidence, dict(zip(("whole", "shuffled", "put back"), said, strict=True)))


def doubly_stochastic(scores: Tensor) -> Tensor:
    """exp(scores) [T, T] with rows and columns scaled to sums of 1."""
    log = scores.double()
    for _ in range(_ROUNDS):
        log = log - log.logsumexp(1, keepdim=True)
        log = log - log.logsumexp(0, keepdim=True)
    return log.exp()


def classify(model: EvaluatedModel, classifier: LinearProbe, pictures: Tensor) -> list[tuple[str, float]]:
    """The likeliest class of each picture uint8 [n, 3, S, S], and its probability."""
    encoding = encode_pixels(model, pictures)
    embedding = torch.cat([encoding.cls.float(), encoding.patches.float().mean(1)], dim=-1)
    best = classifier.logits(embedding).softmax(-1).max(-1)
    labels = classifier.classes[best.indices].tolist()
    return [(CLASSES[label], value) for label, value in zip(labels, best.values.tolist(), strict=True)]


def check_arrangement(placed: Sequence[int], cut: Cut) -> Tensor:
    """A visitor's arrangement as int64 [T].

    Raises:
        ValueError: it does not name each tile once.
    """
    if sorted(placed) != list(range(cut.puzzle.tiles)):
        raise InputError(f"An arrangement of {cut.puzzle} names each of the tiles 0 to {cut.puzzle.tiles - 1} once.")
    return torch.tensor(list(placed))


def picture(upload: Upload, cut: Cut, placed: Tensor) -> Tensor:
    """For people: uint8 [3, S, S] at the size in which pictures are shown."""
    return cut.lay(upload.square(SHOWN), placed)

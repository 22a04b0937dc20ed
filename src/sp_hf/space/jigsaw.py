"""The game: a photograph in 3 x 3 tiles, each seen alone, shuffled; who puts more of them back in their places?

The puzzles are those of :mod:`sp_hf.evaluation.where.jigsaw.task`, tiles encoded apart: squares of 80 % of their cell,
displaced in it, each with colours of its own, so that neither edges nor colour tell which tiles are neighbours. A
puzzle is a pure function of its seed, so nothing is kept between requests.

Letters: T = 9 tiles, S side of a canvas and N of a tile in px, P puzzles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..evaluation.model import EvaluatedModel
from ..evaluation.where.jigsaw.permutations import optimal_assignment
from ..evaluation.where.jigsaw.tiles import tiles_apart
from ..evaluation.whole_images import encode_pixels
from ..views.keyed_random import sample_keys
from .probe_set import GRID, PHOTOMETRIC, PUZZLE, ProbeSet, canvas_size, crop_size
from .uploads import SHOWN, Upload

TILES = PUZZLE.tiles
CHANCE = 1.0
"""Tiles right by chance, on average: of a random permutation, one stays in its place."""
_SHOWN_TILE = 128  # px: 80 % of a cell of an image of SHOWN px
_AT_ONCE = 16  # puzzles encoded together


@dataclasses.dataclass(frozen=True)
class Cut:
    """How an image is cut and shuffled.

    Args:
        key: int64 [1].
        cells: int64 [T], the cell in which each tile belongs, as they are handed out.
    """

    key: Tensor
    cells: Tensor

    @classmethod
    def of(cls, seed: int) -> Cut:
        """The puzzle of a seed; never in order already.

        Raises:
            InputError: a negative seed, or too large a one.
        """
        if not 0 <= seed < 2**31:
            raise InputError(f"The seed is {seed}; it must be a whole number from 0 on.")
        attempt = 0
        while True:
            key = sample_keys(seed, attempt, attempt + 1)
            cells = PUZZLE.order(key)[0]
            if (cells != torch.arange(TILES)).any():
                return cls(key, cells)
            attempt += 1

    def tiles(self, square: Tensor, size: int) -> Tensor:
        """Of a canvas uint8 [3, S, S], as they are handed out: float32 [T, 3, N, N] in [0, 1]."""
        return tiles_apart(PUZZLE, square[None], self.key, size, PHOTOMETRIC)[0][self.cells]

    @property
    def solution(self) -> Tensor:
        """int64 [T]: which tile, as handed out, belongs in each cell."""
        return self.cells.argsort()

    def right(self, placed: Tensor) -> Tensor:
        """bool [T]: in which cells of an arrangement int64 [T] the right tile lies."""
        return self.cells[placed] == torch.arange(TILES)


@dataclasses.dataclass(frozen=True)
class Solved:
    """What a model makes of a puzzle.

    Args:
        cut: the puzzle.
        placed: int64 [T], the tile in each cell, as they were handed out.
    """

    cut: Cut
    placed: Tensor

    @property
    def right(self) -> int:
        """Tiles in their places."""
        return int(self.cut.right(self.placed).sum())


def solve(model: EvaluatedModel, probes: ProbeSet, puzzles: Sequence[tuple[Upload, Cut]]) -> list[Solved]:
    """Put the tiles of images back, each encoded for itself.

    Args:
        model: on its device.
        probes: its own.
        puzzles: P images and how they are cut.
    """
    size, solved = crop_size(model), []
    squares: dict[int, Tensor] = {}  # of the same image once
    for start in range(0, len(puzzles), _AT_ONCE):
        batch = puzzles[start : start + _AT_ONCE]
        for upload, _ in batch:
            squares.setdefault(id(upload), upload.square(canvas_size(model)))
        tiles = torch.cat([cut.tiles(squares[id(upload)], size) for upload, cut in batch])  # [P T, 3, N, N]
        with torch.inference_mode():
            encoding = encode_pixels(model, tiles)
            features = torch.cat([encoding.cls.float(), encoding.patches.float().mean(1)], dim=-1).cpu()
        scores = probes.cells.scores(features.unflatten(0, (len(batch), TILES)))
        cells = optimal_assignment(scores)  # [P, T], of each tile
        solved += [Solved(cut, order.argsort()) for (_, cut), order in zip(batch, cells, strict=True)]
    return solved


def sheet(upload: Upload, cut: Cut) -> Tensor:
    """For people: the tiles as they are handed out, three in a row without gaps, uint8 [3, 3 N, 3 N]."""
    tiles = cut.tiles(upload.square(SHOWN), _SHOWN_TILE).view(GRID, GRID, 3, _SHOWN_TILE, _SHOWN_TILE)
    laid = tiles.permute(2, 0, 3, 1, 4).reshape(3, GRID * _SHOWN_TILE, GRID * _SHOWN_TILE)
    return (laid * 255).round().to(torch.uint8)


def check_arrangement(placed: Sequence[float]) -> Tensor:
    """A visitor's arrangement as int64 [T].

    Raises:
        InputError: it does not name each tile once.
    """
    if sorted(placed) != list(range(TILES)):
        raise InputError(f"An arrangement of {PUZZLE} names each of the tiles 0 to {TILES - 1} once.")
    return torch.tensor([int(tile) for tile in placed])

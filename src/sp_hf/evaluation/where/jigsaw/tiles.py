"""Jigsaw puzzles: cut an image into tiles with gap and jitter, show them apart, or lay them in any order.

A grid of g x g has T = g^2 cells, counted from 0, row by row. The tile of a cell is a square of ``1 - gap`` of the
cell's side, moved inside the cell by up to ``jitter`` of the room there is, uniformly in x and y. Edges of neighbouring
tiles therefore do not meet, and how much is missing between them is not known.

What is drawn for an image depends on its key and on g alone, so every model gets the same puzzles: the order (uniform
over all T! permutations, the identity among them), the displacement of each tile, its photometric jitter.

**Apart**, a tile is resampled from the canvas to the size an encoder takes, with a photometric jitter of its own.
**Laid**, tiles are moved by whole pixels, without resampling, to the middle of their places on the image's mean colour.
For recognition the gaps are **filled**, each pixel with the nearest one of its cell's tile.

Letters: B images, g cells a side, T = g^2 cells, S image side, N side of a tile that is shown apart, t side of a tile
that is laid, all in px, R x C patch tokens.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ....errors import InputError
from ....views.crops import crop
from ....views.keyed_random import permutation, uniform
from ....views.photometric import NUMBERS, Photometric, colour_matrices, finish, jitter_from


@dataclasses.dataclass(frozen=True)
class Puzzle:
    """How images are cut.

    Args:
        grid: g, cells a side; at least 2.
        gap: share of a cell's side that is left out, in [0, 1).
        jitter: share of the gap that a tile may move in, in [0, 1]; at 1 it may touch its cell's edge.
    """

    grid: int
    gap: float
    jitter: float

    def __post_init__(self) -> None:
        if self.grid < 2:
            raise InputError(f"a jigsaw of {self.grid} x {self.grid} is no puzzle; grids start at 2")
        if not 0 <= self.gap < 1 or not 0 <= self.jitter <= 1:
            raise InputError(f"gap is {self.gap} and jitter {self.jitter}; they must lie in [0, 1) and [0, 1]")

    def __str__(self) -> str:
        return f"{self.grid}x{self.grid}"

    @property
    def tiles(self) -> int:
        """T."""
        return self.grid**2

    def order(self, keys: Tensor) -> Tensor:
        """The cell of each tile, as the tiles are handed out: int64 [B] to int64 [B, T]."""
        return permutation(keys, f"jigsaw {self.grid}/order", self.tiles)

    def displacement(self, keys: Tensor) -> Tensor:
        """Of the tile of each cell, as a share of the room on either side: [B] to float32 [B, T, 2] in [-1, 1]."""
        return self.jitter * (2 * uniform(keys, f"jigsaw {self.grid}/displacement", (self.tiles, 2)) - 1)

    def boxes(self, keys: Tensor) -> Tensor:
        """Of the tile of each cell: [B] to float32 [B, T, 4], normalised cxcywh."""
        ticks = (torch.arange(self.grid, device=keys.device) + 0.5) / self.grid
        centres = torch.stack([ticks.repeat(self.grid), ticks.repeat_interleave(self.grid)], dim=-1)  # [T, 2]
        centres = centres + self.displacement(keys) * self.gap / (2 * self.grid)
        return torch.cat([centres, torch.full_like(centres, (1 - self.gap) / self.grid)], dim=-1)

    def tile_side(self, size: int) -> int:
        """t: side in px of the tiles of an image of S px that are laid; 0 where the cells are too small."""
        return int((1 - self.gap) * (size // self.grid) + 1e-9)


def tiles_apart(puzzle: Puzzle, canvases: Tensor, keys: Tensor, size: int, photometric: Photometric) -> Tensor:
    """The tile of each cell, resampled and jittered in colour, each for itself.

    Args:
        canvases: uint8 [B, 3, S, S].
        keys: int64 [B].
        size: N.

    Returns:
        float32 [B, T, 3, N, N] in [0, 1], in the order of the cells.
    """
    centres, extents = puzzle.boxes(keys).movedim(-1, 0).split(2)  # [2, B, T], x and y
    jitter = jitter_from(uniform(keys, f"jigsaw {puzzle.grid}/photometric", (puzzle.tiles, NUMBERS)), photometric)
    rows_first = canvases.permute(0, 2, 1, 3).float().contiguous()  # [B, S, 3, S]
    pixels = torch.empty(len(keys), puzzle.tiles, 3, size, size, device=canvases.device)
    finish(crop(rows_first, centres, extents, size), jitter, colour_matrices(jitter), (), out=pixels)
    return pixels


def lay(puzzle: Puzzle, pixels: Tensor, keys: Tensor, places: Tensor) -> Tensor:
    """Images whose tiles lie in other places.

    Args:
        pixels: uint8 [B, 3, S, S].
        keys: int64 [B].
        places: int64 [B, T], the place where the tile of each cell is laid.

    Returns:
        uint8 [B, 3, S, S].
    """
    side, (starts, room) = puzzle.tile_side(pixels.shape[-1]), _cells(puzzle, pixels.shape[-1])
    cell_of = places.argsort(-1)  # [B, T], the cell whose tile lies in each place
    shift = puzzle.displacement(keys).double()  # of cells
    images = torch.arange(len(pixels))[:, None, None, None]
    laid = pixels.float().mean((2, 3)).round().to(torch.uint8)[..., None, None].expand_as(pixels).clone()
    grid, span = puzzle.grid, torch.arange(side)
    column, row = torch.arange(puzzle.tiles) % grid, torch.arange(puzzle.tiles) // grid  # [T], of each cell
    left = starts[column] + ((1 + shift[..., 0]) * room[column] / 2).round().long()  # [B, T], where each tile is cut
    top = starts[row] + ((1 + shift[..., 1]) * room[row] / 2).round().long()
    left, top = left.gather(1, cell_of), top.gather(1, cell_of)  # of the tile in each place
    cut = pixels.permute(0, 2, 3, 1)[
        images, (top[..., None] + span)[..., :, None], (left[..., None] + span)[..., None, :]
    ]
    to_x, to_y = (starts[column] + room[column] // 2).tolist(), (starts[row] + room[row] // 2).tolist()
    for place, (x, y) in enumerate(zip(to_x, to_y, strict=True)):
        laid[:, :, y : y + side, x : x + side] = cut[:, place].permute(0, 3, 1, 2)
    return laid


def fill(puzzle: Puzzle, laid: Tensor) -> Tensor:
    """Gaps of laid images filled with the nearest pixels of the tile in each cell: uint8 [B, 3, S, S] to the same.

    Bars between tiles put off a classifier more than a wrong order does.
    """
    side, (starts, room) = puzzle.tile_side(laid.shape[-1]), _cells(puzzle, laid.shape[-1])
    pixels = torch.arange(laid.shape[-1])
    cell = torch.searchsorted(starts, pixels, right=True) - 1  # of each pixel, along either axis
    first = (starts + room // 2)[cell]
    nearest = torch.minimum(torch.maximum(pixels, first), first + side - 1)
    return laid[:, :, nearest][:, :, :, nearest]


def _cells(puzzle: Puzzle, size: int) -> tuple[Tensor, Tensor]:
    """Along one axis: first px of each cell, and the px by which it is longer than a tile. Both int64 [g]."""
    edges = torch.arange(puzzle.grid + 1) * size // puzzle.grid
    return edges[:-1], edges.diff() - puzzle.tile_side(size)


def token_weights(puzzle: Puzzle, size: int, tokens: tuple[int, int]) -> Tensor:
    """How much of each place's tile each patch token covers.

    Args:
        size: S.
        tokens: (R, C).

    Returns:
        float32 [T, R C]; rows sum to 1.
    """
    side, (starts, room) = puzzle.tile_side(size), _cells(puzzle, size)
    first = (starts + room // 2).double()[:, None]  # [g, 1], where tiles lie

    def covered(count: int) -> Tensor:
        edges = torch.arange(count + 1, dtype=torch.float64) * size / count
        overlap = torch.minimum(first + side, edges[1:]) - torch.maximum(first, edges[:-1])
        return overlap.clamp(min=0) / side  # [g, count]

    rows, columns = covered(tokens[0]), covered(tokens[1])
    return torch.einsum("yr,xc->yxrc", rows, columns).reshape(puzzle.tiles, -1).float()

"""Where a patch is, read from its token: ridge regression on frozen patch tokens.

    (row, column)  ~  W' x + b        of a token x; the patch's centre, in image heights and widths

R2 on validation images, pooled over tokens, against answering the middle of the image. Tokens that hold their position
linearly have 1, tokens that are all the same 0.

Letters: n images, K tokens of an image that are asked, N all of them, D feature size.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ...measure import Measure, with_refits
from ...probes.hold_out import hold_out
from ...probes.refits import random_halves
from ...probes.ridge import fit_ridge, solve_ridge
from ...probes.standardise import Standardisation

PROBE = "the probe of patch positions"  # in errors
MAX_TOKENS = 20_000  # of a side


def patch_centres(grid: tuple[int, int]) -> Tensor:
    """(row, column) of patch centres in image heights and widths, from the middle of the image: float64 [N, 2]."""
    rows, columns = ((torch.arange(side, dtype=torch.float64) + 0.5) / side - 0.5 for side in grid)
    return torch.cartesian_prod(rows, columns)


def drawn_positions(n: int, grid: tuple[int, int], seed: int, max_tokens: int = MAX_TOKENS) -> Tensor:
    """Which tokens of each image are asked, different ones of each: int64 [n, K], at most ``max_tokens`` in all."""
    patches = grid[0] * grid[1]
    generator = torch.Generator().manual_seed(seed)
    count = max(1, min(patches, max_tokens // n))
    return torch.rand(n, patches, generator=generator).argsort(1)[:, :count]


@dataclasses.dataclass(frozen=True)
class PositionProbe:
    """A linear map from tokens to positions.

    Args:
        standardise: of the training tokens.
        weights: float64 [D, 2].
        mean: float64 [2], of the training positions.
        penalties: [2], chosen.
    """

    standardise: Standardisation
    weights: Tensor
    mean: Tensor
    penalties: Tensor

    @classmethod
    def fit(cls, tokens: Tensor, places: Tensor, seed: int, penalties: Tensor | None = None) -> PositionProbe:
        """Fit to training images.

        Args:
            tokens: [n, K, D].
            places: [n, K, 2].
            seed: of the held-out images, whole ones, that choose the penalties.
            penalties: [2]; ``None``: they are chosen.

        Raises:
            ValueError: too few images to hold some out.
        """
        standardise = Standardisation.of(tokens.double())
        x, mean = standardise(tokens.double()).flatten(0, 1), places.mean((0, 1))
        y = (places - mean).flatten(0, 1)
        if penalties is None:
            held_out = hold_out(len(tokens), seed, PROBE).repeat_interleave(tokens.shape[1])
            weights, penalties = fit_ridge(x, y, held_out)
        else:
            weights = solve_ridge(x, y, penalties)
        return cls(standardise, weights, mean, penalties)

    def predict(self, tokens: Tensor) -> Tensor:
        """Positions float64 [..., 2] of tokens [..., D]."""
        return self.standardise(tokens.double()) @ self.weights + self.mean


def position_measures(places: Tensor, predicted: Tensor) -> dict[str, Measure]:
    """``r2``, of rows and columns at once, ``r2_row`` and ``r2_column``.

    Args:
        places, predicted: [n, K, 2], from the middle of the image.
    """
    residual, total = (predicted - places).square().sum(1), places.square().sum(1)  # [n, 2]
    columns = {"r2": [0, 1], "r2_row": [0], "r2_column": [1]}
    return {
        name: Measure(residual[:, axes].sum(1), total[:, axes].sum(1), form="complement", chance=0.0)
        for name, axes in columns.items()
    }


def probe_positions(
    train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], *, seed: int = 0, refits: int = 0
) -> tuple[dict[str, Measure], PositionProbe]:
    """The metrics of :func:`position_measures`, and the probe.

    Args:
        train, validation: tokens [n, K, D] and their places [n, K, 2].
        seed: of held-out images and refits.
        refits: to halves of the training images.
    """
    (tokens, places), (asked, truth) = train, validation
    probe = PositionProbe.fit(tokens, places, seed)
    refitted = [
        position_measures(truth, PositionProbe.fit(tokens[half], places[half], seed, probe.penalties).predict(asked))
        for half in random_halves(len(tokens), refits, seed)
    ]
    return with_refits(position_measures(truth, probe.predict(asked)), refitted), probe

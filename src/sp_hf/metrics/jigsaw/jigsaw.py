"""Jigsaw: how well shuffled tiles of an image are put back.

A puzzle of n tiles is solved by a permutation: entry i is the cell, counted from 0 row by row, in which tile i belongs.
The tiles may be handed out in any order, as long as predictions and references count them alike.

    tile accuracy     tiles in their true cell / tiles                          chance 1 / n
    exact accuracy    puzzles with all tiles in their true cells / puzzles      chance 1 / n!
    Kendall tau       (concordant - discordant pairs of tiles) / (n (n - 1) / 2), mean over puzzles      chance 0

A pair of tiles is concordant where prediction and truth agree on which of the two comes first, row by row (Kendall
1938, "A new measure of rank correlation"; permutations have no ties, so tau-a and tau-b are the same). Chance is the
expectation over uniformly random permutations, whatever the true ones.

Letters: m puzzles, n tiles of each.
"""

import math

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
@article{kendall1938new,
  title   = {A New Measure of Rank Correlation},
  author  = {Kendall, Maurice G.},
  journal = {Biometrika},
  volume  = {30},
  number  = {1/2},
  pages   = {81--93},
  year    = {1938}
}
"""

_INPUTS = """
Args:
    predictions: m permutations of 0 .. n-1; entry i is the cell in which tile i is put.
    references: m permutations of 0 .. n-1; entry i is the cell in which tile i belongs.

Returns:
    tile_accuracy, exact_accuracy: in [0, 1].
    kendall_tau: in [-1, 1].
    chance_tile_accuracy, chance_exact_accuracy, chance_kendall_tau: their expectations for random permutations.

Raises:
    ValueError: no puzzles, fewer than two tiles, an entry that is no permutation, or puzzles of different sizes.
"""


class Jigsaw(evaluate.Metric):
    """Predicted permutations against the true ones."""

    def _info(self) -> evaluate.MetricInfo:
        # As integers, evaluate would round 0.9 down to 0 without a word, and scores would pass for a permutation.
        permutation = datasets.List(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": permutation, "references": permutation}),
            reference_urls=["https://arxiv.org/abs/2605.09963"],
            license="apache-2.0",
        )

    def _compute(self, *, predictions: list, references: list) -> dict[str, float]:
        if not len(references):
            raise ValueError("there are no puzzles: give one prediction and reference, or more")
        tiles = len(references[0] or ())
        if tiles < 2:
            raise ValueError(f"references[0] is {references[0]}; a puzzle has two tiles or more")
        predicted = _permutations("predictions", predictions, tiles)
        truth = _permutations("references", references, tiles)
        right = predicted == truth  # [m, n]
        return {
            "tile_accuracy": float(right.mean()),
            "exact_accuracy": float(right.all(1).mean()),
            "kendall_tau": float(kendall_tau(predicted, truth).mean()),
            "chance_tile_accuracy": 1 / tiles,
            "chance_exact_accuracy": 1 / math.factorial(tiles),
            "chance_kendall_tau": 0.0,
        }


def kendall_tau(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rank correlation, row by row: [m, n] and [m, n] without ties to [m]."""
    n = a.shape[1]
    score = np.zeros(len(a), dtype=np.int64)
    for i in range(n - 1):
        score += (np.sign(a[:, i + 1 :] - a[:, i : i + 1]) * np.sign(b[:, i + 1 :] - b[:, i : i + 1])).sum(1)
    return score / (n * (n - 1) / 2)


def _permutations(name: str, rows: list, tiles: int) -> np.ndarray:
    """Int64 [m, n], each row a permutation of 0 .. n-1."""
    for index, row in enumerate(rows):
        if row is None or len(row) != tiles:
            raise ValueError(
                f"{name}[{index}] is {row}, but references[0] has {tiles} tiles; all puzzles of one computation must"
                " have as many, because chance depends on it"
            )
    values = np.array(rows, dtype=np.float64)
    bad = np.flatnonzero((np.sort(values, axis=1) != np.arange(tiles)).any(1))
    if len(bad):
        raise ValueError(
            f"{name}[{bad[0]}] is {rows[bad[0]]}; it must be a permutation of 0 to {tiles - 1}, each of them once"
        )
    return values.astype(np.int64)

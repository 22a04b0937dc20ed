"""Jigsaw: the tiles of an image put back by what frozen features tell of where each belongs. The second where-probe.

Task (Shen et al. 2026, arXiv:2605.09963; as a pretext Noroozi and Favaro 2016, arXiv:1603.09246): an image is cut into
2 x 2, 3 x 3 and 4 x 4 tiles, which are shuffled; say in which cell each belongs. Protocol of this implementation (the
paper's details are not public):

- **Puzzles** (:mod:`~sp_hf.evaluation.where.jigsaw.tiles`): tiles are squares of 80 % of the cell's side, displaced at
  random by up to half of the room there is: edges do not meet. Orders are uniform over all permutations. Every model
  gets the same puzzles.
- **Apart**: each tile is encoded for itself, with a photometric jitter of its own, lest colour tell which tiles are
  neighbours. Features: class token and mean patch token.
- **Whole**: the shuffled image is encoded at once. Features: the mean of the patch tokens on the tile, each weighted by
  the area of it that the tile covers. They tell where the tile lies now, and that says nothing of its origin.
- **Probe** (:mod:`~sp_hf.evaluation.where.jigsaw.probe`): linear discriminant analysis within images, fitted to
  training images; the permutation is the optimal assignment of its scores.
- **Metrics**, on the validation images: tiles in their cells (chance 1 / T), images with all tiles in their cells
  (chance 1 / T!), Kendall's tau of predicted and true cells (chance 0); recognition after reconstruction
  (:mod:`~sp_hf.evaluation.where.jigsaw.recognition`) where there are labels.

Letters: n images, g cells a side, T = g^2 tiles, D feature size.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from ....errors import InputError
from ....views.photometric import Photometric
from ...accuracy import LabelError, check_labels
from ...features import ImageSample
from ...measure import Measure
from ...model import EvaluatedModel
from ...probes.hold_out import MIN_IMAGES
from ...task import Picture, Task, TaskResult, option
from .features import keys_of, part_of, patch_grid
from .permutations import kendall_tau
from .pictures import SolvedPuzzle, draw_sheet, solved_puzzles
from .probe import PROBE
from .recognition import recognise
from .solving import Solution, shuffled_images, solve_apart, solve_whole
from .tiles import Puzzle

if TYPE_CHECKING:
    from ...data import EvaluationData

logger = logging.getLogger(__name__)

REGIMES = ("apart", "whole")
_SHOWN = 2  # images of each grid in a sheet


def puzzle_measures(predicted: Tensor, cells: Tensor) -> dict[str, Measure]:
    """What is reported of predicted permutations: int64 [n, T] twice."""
    tiles, right = cells.shape[1], (predicted == cells)
    return {
        "tile_accuracy": Measure.of(right.double().mean(1), percent=True, chance=1 / tiles),
        "exact_accuracy": Measure.of(right.all(1).double(), percent=True, chance=1 / math.factorial(tiles)),
        "kendall_tau": Measure.of(kendall_tau(predicted, cells), chance=0.0),
    }


@dataclasses.dataclass(frozen=True)
class Jigsaw(Task):
    """Shuffled tiles put back, and recognition thereafter."""

    name: ClassVar[str] = "jigsaw"
    kind: ClassVar[Literal["what", "where"]] = "where"

    grids: tuple[int, ...] = option((2, 3, 4), "cells a side")
    regimes: tuple[str, ...] = option(REGIMES, "tiles encoded apart, or the shuffled image seen whole")
    images: int | None = option(500, "images of each side; 0 for all")
    gap: float = option(0.2, "share of a cell's side that is left out")
    jitter: float = option(0.5, "share of the gap in which a tile is displaced")
    tile_size: int | None = option(
        None, "side in px at which tiles are encoded apart; default: the least that a model takes from half its own on"
    )
    canvas_size: int | None = option(None, "side in px at which images are kept; default: tile_size times finest grid")
    photometric: Photometric = dataclasses.field(default_factory=Photometric.byol)

    def __post_init__(self) -> None:
        for name in ("grids", "regimes"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
        unknown = [regime for regime in self.regimes if regime not in REGIMES]
        if unknown or not self.regimes or not self.grids:
            raise InputError(
                f"jigsaw grids are {self.grids} and regimes {self.regimes}; it needs one grid or more, and regimes of"
                f" {', '.join(REGIMES)}"
            )
        _ = self.puzzles()  # raises where one cannot be cut
        for name in ("tile_size", "canvas_size", "images"):
            if (getattr(self, name) or 0) < 0:
                raise InputError(f"jigsaw {name} is {getattr(self, name)}; it must be positive")

    @property
    def headline(self) -> tuple[str, ...]:  # type: ignore[override]  # of the middle grid
        grid = sorted(self.grids)[len(self.grids) // 2]
        way = "whole" if "whole" in self.regimes else self.regimes[0]
        return tuple(f"tile_accuracy_{grid}x{grid}_{regime}" for regime in self.regimes) + (
            f"kendall_tau_{grid}x{grid}_{self.regimes[0]}",
            f"recovered_{grid}x{grid}_{way}",
        )

    def puzzles(self) -> list[Puzzle]:
        """One a grid."""
        return [Puzzle(grid, self.gap, self.jitter) for grid in self.grids]

    def tile_size_for(self, model: EvaluatedModel) -> int:
        """Side in px at which this model is shown tiles that are encoded apart."""
        return self.tile_size or _least_size(model)

    def canvas_size_for(self, model: EvaluatedModel) -> int:
        """Side in px at which the images are kept that these are cut from."""
        return self.canvas_size or max(self.grids) * self.tile_size_for(model)

    def _apart_options(self, model: EvaluatedModel) -> dict[str, Any]:
        sizes = {"size": self.tile_size_for(model), "canvas_size": self.canvas_size_for(model)}
        return {**sizes, "photometric": self.photometric}

    def prepare(self, data: EvaluationData) -> None:
        n = len(part_of(data, data.train, self.images or None).rows)
        if n < MIN_IMAGES:
            raise InputError(
                f"{n} training images are too few for {PROBE}; it needs {MIN_IMAGES} or more"
                " (--max_images, --jigsaw_images)"
            )

    def canvas_sizes(self, model: EvaluatedModel, data: EvaluationData) -> Collection[int]:
        return {self.canvas_size_for(model)}

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        if "apart" in self.regimes:
            model.encoder.patches_of(self.tile_size_for(model))
        tokens = min(patch_grid(model))
        for puzzle in self.puzzles():
            side = puzzle.tile_side(model.size)
            if ("whole" in self.regimes and tokens < puzzle.grid) or side < 1:
                raise InputError(
                    f"{model.name} sees whole images of {model.size} px as {tokens} x {tokens} patch tokens: too few"
                    f" for a jigsaw of {puzzle} with tiles of {side} px; use a larger --size, or leave it out of"
                    " --jigsaw_grids"
                )

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        train, validation = (part_of(data, sample, self.images or None) for sample in (data.train, data.validation))
        no_labels, misses, hits = _why_unrecognisable(data, validation), data.cache.misses, data.cache.hits
        measures: dict[str, Measure] = {}
        penalties, notes = {}, {}
        sheets: dict[str, list[Any]] = {regime: [] for regime in self.regimes}
        for index, puzzle in enumerate(self.puzzles()):
            solutions = {}
            for regime in self.regimes:
                if regime == "apart":
                    solution = solve_apart(model, data, train, validation, puzzle, **self._apart_options(model))
                else:
                    taught, asked = (shuffled_images(model, data, part, puzzle) for part in (train, validation))
                    solution = solve_whole(taught, asked, data.seed)
                solutions[regime], penalties[f"{puzzle}_{regime}"] = solution, solution.penalty
                of_puzzle = puzzle_measures(solution.predicted, solution.cells)
                measures |= {f"{key}_{puzzle}_{regime}": measure for key, measure in of_puzzle.items()}
                sheets[regime] += self._show(regime, model, data, validation, puzzle, solution, index)
            if no_labels is None:
                of_puzzle, notes[f"{puzzle}"] = recognise(model, data, validation, puzzle, solutions)
                measures |= of_puzzle
        if data.cache.hits > hits and data.cache.misses == misses:
            logger.info("%s: features of jigsaws are reused from %s", model.name, data.cache.directory)
        details = {
            "tile_size": self.tile_size_for(model),
            "canvas_size": self.canvas_size_for(model),
            "train_images": len(train.rows),
            "penalties": penalties,
            "recognition": no_labels or {name: note for name, note in notes.items() if note},
        }
        return TaskResult(measures, details, sheets)

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        pictures = []
        for regime in self.regimes if results else ():
            path = folder / f"jigsaw_{regime}.png"
            draw_sheet(path, {name: result.artifacts[regime] for name, result in results.items()})
            subject = "tiles encoded apart" if regime == "apart" else "the shuffled image seen whole"
            rows = "shuffled, put back by each model (wrong tiles framed in red, white and black), and in true order"
            caption = f"Jigsaw, {subject}: {rows}"
            pictures.append(Picture(path, caption))
        return pictures

    def _show(
        self,
        regime: str,
        model: EvaluatedModel,
        data: EvaluationData,
        part: ImageSample,
        puzzle: Puzzle,
        solution: Solution,
        index: int,
    ) -> list[SolvedPuzzle]:
        """A few images as this regime had them, others for each grid."""
        chosen = torch.arange(index * _SHOWN, (index + 1) * _SHOWN) % len(solution.rows)
        rows = solution.rows[chosen]
        few = data.part(part, rows.tolist())
        if regime == "apart":
            pixels = data.canvases(few, self.canvas_size_for(model)).canvases
        else:
            pixels = data.pixels(model, few).pixels
        keys = keys_of(data, part)[rows]
        return solved_puzzles(puzzle, pixels, keys, solution.cells[chosen], solution.predicted[chosen])


def _why_unrecognisable(data: EvaluationData, part: ImageSample) -> str | None:
    """Why images of the validation side cannot be classified, if they cannot."""
    try:
        check_labels(data.train.labels, part.labels, part.images.label_names)
    except LabelError as reason:
        return str(reason)
    return None


def _least_size(model: EvaluatedModel) -> int:
    """The smallest side in px, from half a model's own on, that it can be shown."""
    for size in range(-(-model.size // 2), model.size):
        try:
            model.encoder.patches_of(size)
        except ValueError:
            continue
        return size
    return model.size

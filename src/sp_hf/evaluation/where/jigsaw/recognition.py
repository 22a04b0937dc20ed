"""Recognition after reconstruction: is an image whose tiles a model has put back recognised again?

The linear probe of the model (:mod:`sp_hf.evaluation.what.linear`, trained on intact images) classifies each image

- **intact**;
- **shuffled**: its tiles in a random order;
- **ordered**: its tiles in the true order, which costs what gaps and jitter cost, and no order;
- **reconstructed**: its tiles in the predicted order;

the gaps of the last three filled with the nearest pixels of the tile in each cell, as bars between tiles put off a
classifier more than a wrong order does.

    recovered  =  (reconstructed - shuffled) / (intact - shuffled)

is 0 for tiles left as they were. As what was in the gaps is lost, not all can be recovered: ``recoverable`` is the same
fraction for the ordered images.

Letters: n images, T tiles of an image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...accuracy import known
from ...features import ImageSample
from ...measure import Measure, paired_difference
from ...model import EvaluatedModel
from .features import filled_features, keys_of
from .solving import Solution
from .tiles import Puzzle

if TYPE_CHECKING:
    from ...data import EvaluationData


@dataclasses.dataclass(frozen=True)
class Recognised:
    """Whether each image is recognised, bool [n].

    Args:
        intact, shuffled, ordered: see the module.
        reconstructed: by the way in which the puzzles were solved.
    """

    intact: Tensor
    shuffled: Tensor
    ordered: Tensor
    reconstructed: Mapping[str, Tensor]


def recognition_measures(
    recognised: Recognised, name: str, chance: float, seed: int
) -> tuple[dict[str, Measure], str | None]:
    """Accuracies and fractions recovered.

    Args:
        recognised: of one grid.
        name: of the grid, e.g. ``"3x3"``.
        chance: accuracy of guessing.
        seed: of the intervals.

    Returns:
        Measures by name, and why there are no fractions, if there are none: where intact images are not recognised
        better than shuffled ones beyond doubt (95 %), there is nothing to recover.
    """
    right = {
        "intact": recognised.intact,
        f"shuffled_{name}": recognised.shuffled,
        f"ordered_{name}": recognised.ordered,
    } | {f"reconstructed_{name}_{way}": correct for way, correct in recognised.reconstructed.items()}
    measures = {
        f"accuracy_{key}": Measure.of(correct.double(), percent=True, chance=chance) for key, correct in right.items()
    }
    lost = paired_difference(measures["accuracy_intact"], measures[f"accuracy_shuffled_{name}"], seed)
    if lost.low <= 0:
        return measures, f"no fraction recovered: shuffling costs {lost} of accuracy, not clearly more than nothing"
    before = recognised.shuffled.double()
    loss = recognised.intact.double() - before
    measures[f"recoverable_{name}"] = Measure(recognised.ordered.double() - before, loss)
    for way, correct in recognised.reconstructed.items():
        measures[f"recovered_{name}_{way}"] = Measure(correct.double() - before, loss)
    return measures, None


def recognise(
    model: EvaluatedModel,
    data: EvaluationData,
    part: ImageSample,
    puzzle: Puzzle,
    solutions: Mapping[str, Solution],
) -> tuple[dict[str, Measure], str | None]:
    """Recognition of the labelled images of a sample.

    Args:
        model: on its device.
        part: with labels.
        puzzle: how its images are cut.
        solutions: by the way in which the puzzles were solved.

    Returns:
        As :func:`recognition_measures`.
    """
    probe, intact = data.linear_probe(model), data.features(model, part)
    of_all = known(intact.labels)
    kept = of_all >= 0
    for solution in solutions.values():
        kept &= torch.isin(intact.rows, solution.rows)
    rows, labels = intact.rows[kept], of_all[kept]

    def right(places: Tensor) -> Tensor:
        return probe.predict(filled_features(model, data, part, puzzle, rows, places)) == labels

    reconstructed = {
        regime: right(solution.places()[torch.isin(solution.rows, rows)]) for regime, solution in solutions.items()
    }
    recognised = Recognised(
        intact=probe.predict(intact.embedding()[kept]) == labels,
        shuffled=right(puzzle.order(keys_of(data, part)[rows]).argsort(-1)),
        ordered=right(torch.arange(puzzle.tiles).repeat(len(rows), 1)),
        reconstructed=reconstructed,
    )
    return recognition_measures(recognised, str(puzzle), 1 / len(torch.unique(labels)), data.seed)

"""Of a photograph, a puzzle and a pair of crops that are typical: every model does in them as it does on average.

The page shows them before anybody has asked. Chosen by what models score, they would flatter; chosen so, they show what
to expect of the next one. Of all that are tried, the one is taken whose scores are nearest to the models' means over
all (least sum of squares; the first of several).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..evaluation.model import EvaluatedModel
from ..views.geometry import box_iou
from .jigsaw import Cut, solve
from .patches import patch_maps
from .probe_set import ProbeSet
from .uploads import Upload
from .where import locate, read_box

PUZZLES = 40
PAIRS = 40
CENTRE = (0.5, 0.5)
_SIDES = (30, 45)  # of a crop, in percent of the image's
_APART = 0.1  # largest IoU of the two crops
Asked = Mapping[str, tuple[EvaluatedModel, ProbeSet]]


def first_answers(asked: Asked, upload: Upload) -> dict[str, Any]:
    """What the page asks at first, and what models answer (:mod:`.first`)."""
    seed, puzzle = typical_puzzle(asked, upload)
    boxes, where = typical_boxes(asked, upload)
    patches = {}
    for name, (model, _) in asked.items():
        maps = patch_maps(model, upload, CENTRE)
        patches[name] = {
            "similarity": [[round(n, 4) for n in row] for row in maps.similarity.tolist()],
            "components": [[[round(n, 3) for n in colour] for colour in row] for row in maps.components.tolist()],
        }
    return {"seed": seed, "boxes": list(boxes), "puzzle": puzzle, "where": where, "patches": patches}


def typical_puzzle(asked: Asked, upload: Upload) -> tuple[int, dict[str, list[int]]]:
    """The seed of a puzzle of the first :data:`PUZZLES`, and each model's arrangement."""
    puzzles = [(upload, Cut.of(seed)) for seed in range(PUZZLES)]
    solved = {name: solve(model, probes, puzzles) for name, (model, probes) in asked.items()}
    right = torch.tensor([[one.right for one in all_of_them] for all_of_them in solved.values()])  # [M, P]
    seed = nearest_to_means(right)
    return seed, {name: all_of_them[seed].placed.tolist() for name, all_of_them in solved.items()}


def typical_boxes(asked: Asked, upload: Upload) -> tuple[tuple[str, str], dict[str, list[float]]]:
    """A pair of crops of :data:`PAIRS`, as text, and each model's guess of the second one."""
    pairs = box_pairs(PAIRS)
    guesses: dict[str, list[list[float]]] = {}
    overlaps = []
    for name, (model, probes) in asked.items():
        located = [locate(model, probes, upload, *(read_box(text, "") for text in pair)) for pair in pairs]
        guesses[name] = [[round(n, 5) for n in one.predicted.tolist()] for one in located]
        overlaps.append([one.iou for one in located])
    chosen = nearest_to_means(torch.tensor(overlaps))
    return pairs[chosen], {name: guess[chosen] for name, guess in guesses.items()}


def nearest_to_means(scores: Tensor) -> int:
    """Which column of scores [M, P] is nearest to the rows' means."""
    scores = scores.double()
    return int((scores - scores.mean(dim=1, keepdim=True)).square().sum(dim=0).argmin())


def box_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Random pairs of crops that hardly overlap, as :func:`~sp_hf.space.where.read_box` reads them."""
    generator = torch.Generator().manual_seed(seed)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        sides = torch.randint(_SIDES[0], _SIDES[1] + 1, (2, 2), generator=generator)  # [box, side] in percent
        corners = (torch.rand(2, 2, generator=generator) * (100 - sides)).round().long()
        texts = tuple(f"{x}, {y}, {w}, {h}" for (x, y), (w, h) in zip(corners.tolist(), sides.tolist(), strict=True))
        first, second = (read_box(text, "") for text in texts)
        if float(box_iou(first, second)) <= _APART:
            pairs.append((texts[0], texts[1]))
    return pairs

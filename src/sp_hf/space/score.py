"""Scores of many puzzles, and what they say: means with 95 % intervals, and whether one model is clear of another.

No number on the page is written by hand: all are computed here from tiles right in each puzzle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..errors import InputError
from ..evaluation.measure import Estimate, Measure, paired_difference

FEW = 10  # puzzles: below, an interval says little and none is shown
MOST = 2000  # puzzles in a session
_CHANCE, _TILES = 1, 9


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Puzzles that several models were asked, the same ones.

    Args:
        right: tiles right in each puzzle, by model.
        images: what the photographs are, in a line.
    """

    right: Mapping[str, Sequence[int]]
    images: str = ""

    def __post_init__(self) -> None:
        if len({len(counts) for counts in self.right.values()}) > 1:
            raise InputError("the models were not asked the same puzzles")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Benchmark:
        return cls(content["right"], content["images"])

    def to_dict(self) -> dict[str, Any]:
        return {"images": self.images, "right": {name: list(counts) for name, counts in self.right.items()}}

    def __len__(self) -> int:
        return len(next(iter(self.right.values()), ()))

    def estimates(self) -> dict[str, Estimate]:
        """Mean tiles right of each model, with its interval over puzzles."""
        return {name: mean_of(counts) for name, counts in self.right.items()}

    def sentence(self) -> str:
        """Everybody's mean: "Of 50 puzzles: you 6.1, With SP 5.0, Without SP 3.6, chance 1"."""
        means = ", ".join(f"{name} {sum(counts) / len(counts):.1f}" for name, counts in self.right.items())
        puzzles = "1 puzzle" if len(self) == 1 else f"{len(self)} puzzles"
        return f"Of {puzzles}, tiles right of {_TILES}: {means}, chance {_CHANCE}."

    def verdict(self, ours: str, control: str) -> str:
        """Whether one is clear of another, also where it is not, or behind."""
        difference = paired_difference(_measure(self.right[ours]), _measure(self.right[control]))
        low, high = f"{difference.low:.1f}", f"{difference.high:.1f}"
        interval = f"95 % interval {low} to {high}"
        if len(self) < FEW:
            return "Too few puzzles to tell them apart."
        if difference.low > 0:
            more = f"{difference.value:.1f} more in place than {control}"
            return f"Of {_TILES} shuffled tiles, {ours} puts {more} ({interval})."
        if difference.high < 0:
            return f"{ours} does not win here: {-difference.value:.1f} tiles fewer than {control} ({interval})."
        return f"{ours} does not win here: no clear difference from {control} ({difference.value:+.1f}, {interval})."


def mean_of(counts: Sequence[int]) -> Estimate:
    """Mean with its interval over puzzles."""
    return _measure(counts).estimate()


def _measure(counts: Sequence[int]) -> Measure:
    return Measure.of(torch.tensor(counts, dtype=torch.float64))


@dataclasses.dataclass(frozen=True)
class Tally:
    """The puzzles of a visitor's session, kept by the browser.

    Args:
        puzzles: of each its name, the visitor's tiles right (``None``: not played) and each model's.
    """

    puzzles: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, value: Any) -> Tally:
        """What came from a browser; anything that is not a tally is an empty one's beginning.

        Raises:
            InputError: a tally in another form.
        """
        puzzles = value.get("puzzles") if isinstance(value, Mapping) else None
        if value is None or puzzles is None:
            return cls()
        if not isinstance(puzzles, list) or not all(_is_puzzle(puzzle) for puzzle in puzzles):
            raise InputError("The score is not what this page sends; reload it.")
        return cls(tuple(puzzles[-MOST:]))

    def with_puzzle(self, name: str, models: Mapping[str, int], you: int | None = None) -> Tally:
        """One more; of a puzzle that is there already, the first result stays, and models that are new to it join."""
        for index, puzzle in enumerate(self.puzzles):
            if puzzle["name"] == name:
                first = puzzle["you"] if puzzle["you"] is not None else you
                merged = {**puzzle, "you": first, "models": {**models, **puzzle["models"]}}
                return Tally((*self.puzzles[:index], merged, *self.puzzles[index + 1 :]))
        return Tally((*self.puzzles, {"name": name, "you": you, "models": dict(models)})[-MOST:])

    def to_dict(self) -> dict[str, Any]:
        return {"puzzles": list(self.puzzles)}

    def played(self, models: Sequence[str]) -> Benchmark | None:
        """Those that the visitor played, and all of these models."""
        chosen = [p for p in self.puzzles if p["you"] is not None and set(models) <= set(p["models"])]
        if not chosen:
            return None
        return Benchmark({"you": [p["you"] for p in chosen], **_right(chosen, models)})

    def solved(self, models: Sequence[str]) -> Benchmark | None:
        """Those that all of these models solved."""
        chosen = [p for p in self.puzzles if set(models) <= set(p["models"])]
        return Benchmark(_right(chosen, models)) if chosen and models else None


def _right(puzzles: Sequence[Mapping[str, Any]], models: Sequence[str]) -> dict[str, list[int]]:
    return {name: [puzzle["models"][name] for puzzle in puzzles] for name in models}


def _is_puzzle(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"name", "you", "models"} or not isinstance(value["models"], dict):
        return False
    counts = [*value["models"].values(), *([] if value["you"] is None else [value["you"]])]
    whole = all(isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= _TILES for count in counts)
    names = [value["name"], *value["models"]]
    return whole and all(isinstance(name, str) and len(name) <= 200 for name in names) and len(counts) <= 20

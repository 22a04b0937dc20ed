"""What the page shows before anybody has asked: the shipped models' answers about the first photograph, drawn anew.

Only the answers are kept (:mod:`.shipped`), no pictures, so building the page asks no model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from . import tab_jigsaw, tab_patches, tab_where
from .jigsaw import Cut
from .markup import waiting
from .patches import PatchMaps
from .shipped import SEED
from .uploads import Upload
from .where import BOXES, Located, read_box


@dataclasses.dataclass(frozen=True)
class First:
    """Answers by question and model.

    Args:
        answers: of :func:`~sp_hf.space.shipped.first_answers`.
    """

    answers: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """Of the puzzle."""
        return int(self.answers.get("seed", SEED))

    @property
    def boxes(self) -> Sequence[str]:
        """The two crops."""
        return self.answers.get("boxes", BOXES)

    @classmethod
    def unanswered(cls) -> First:
        """Of models that were not asked before."""
        return cls({})

    def puzzle(self, upload: Upload) -> str:
        """Everyone's arrangement."""
        placed = self.answers.get("puzzle")
        return tab_jigsaw.shown_answer(upload, Cut.of(self.seed), placed) if placed else waiting(tab_jigsaw.WAITING)

    def where(self, upload: Upload) -> str:
        """Everyone's guess."""
        guesses = self.answers.get("where")
        if not guesses:
            return waiting(tab_where.WAITING)
        first, second = (read_box(text, which) for text, which in zip(self.boxes, ("first", "second"), strict=True))
        located = {
            name: Located(first, second, torch.tensor(box, dtype=torch.float64)) for name, box in guesses.items()
        }
        return tab_where.shown_answer(upload, located)

    def patches(self, upload: Upload) -> str:
        """Everyone's maps."""
        maps = self.answers.get("patches")
        if not maps:
            return waiting(tab_patches.WAITING)
        drawn = {}
        for name, one in maps.items():
            similarity = torch.tensor(one["similarity"])
            rows, columns = similarity.shape
            drawn[name] = PatchMaps(similarity, torch.tensor(one["components"]), (rows // 2, columns // 2))
        return tab_patches.shown_answer(upload, drawn)

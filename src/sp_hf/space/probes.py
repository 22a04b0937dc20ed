"""The probes of one model, each fitted when it is first asked for, to a few hundred scenes of PartScenes.

They are those of ``sp-hf evaluate`` (:mod:`sp_hf.evaluation`), on images that are squashed for every model. What an
encoder makes of the scenes is kept on disk (:mod:`sp_hf.evaluation.cache`): a second start fits in moments.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

from ..evaluation.accuracy import known
from ..evaluation.cache import FeatureCache, default_cache_dir
from ..evaluation.data import EvaluationData
from ..evaluation.model import EvaluatedModel
from ..evaluation.probes.linear import LinearProbe, fit_linear
from ..evaluation.source import DataSource
from ..evaluation.where.jigsaw.probe import CellProbe
from ..evaluation.where.jigsaw.solving import shuffled_images
from ..evaluation.where.jigsaw.task import Jigsaw
from ..evaluation.where.jigsaw.tiles import Puzzle
from ..evaluation.where.relative_geometry.probe import RelationProbe, embedding
from ..evaluation.where.relative_geometry.protocol import RelativeGeometryProtocol
from ..views.spec import ViewSpec

SCENES = 256
_SMALL = 96  # models for images of so many px are shown crops at their own size, larger ones at half, for speed
_CANVAS = 256
_SWEEP: dict[str, Any] = {"learning_rates": (0.01, 0.1), "weight_decays": (1e-3, 1e-1)}  # a few will do
Say = Callable[[str], None]


def puzzle(grid: int) -> Puzzle:
    """Jigsaws are cut here as in the evaluation."""
    return next(puzzle for puzzle in Jigsaw(grids=(grid,)).puzzles())


class Scenes:
    """The scenes that probes are fitted to, decoded once and shared by models.

    Args:
        count: how many are drawn, at least 20.
        cache: of features; ``None``: the one in the Hugging Face home.
    """

    def __init__(self, count: int = SCENES, cache: FeatureCache | None = None) -> None:
        self.count, self._cache = count, cache or FeatureCache(default_cache_dir())
        self.lock = threading.RLock()  # of two visitors who ask first, one fits
        self.forget()

    def forget(self) -> None:
        """Let go of everything in memory."""
        with self.lock:
            self.data = EvaluationData(
                DataSource(f"part-scenes?size={_CANVAS}&num_images={self.count}"), cache=self._cache
            )


class Probes:
    """Of one model.

    Args:
        model: on its device.
        scenes: to which they are fitted.
    """

    def __init__(self, model: EvaluatedModel, scenes: Scenes) -> None:
        self.model, self._scenes = model, scenes
        self._fitted: dict[Hashable, Any] = {}

    @property
    def crop_size(self) -> int:
        """Side in px at which crops are shown to the model."""
        return self.model.size if self.model.size <= _SMALL else Jigsaw().tile_size_for(self.model)

    @property
    def crops(self) -> ViewSpec:
        """Those that the where-probe is fitted to."""
        return RelativeGeometryProtocol().view_spec(self.crop_size)

    def jigsaw(self, grid: int, say: Say) -> CellProbe:
        """In which cell a tile belongs, of the shuffled image seen whole."""

        def fit(data: EvaluationData) -> CellProbe:
            shuffled = shuffled_images(self.model, data, data.train, puzzle(grid))
            return CellProbe.fit(shuffled.features, shuffled.cells, seed=data.seed)

        return self._once(("jigsaw", grid), fit, f"the probe of {grid} x {grid} jigsaws", say)

    def relation(self, say: Say) -> RelationProbe:
        """Where a second crop lies, and how large it is, seen from the first."""

        def fit(data: EvaluationData) -> RelationProbe:
            crops = data.crops(self.model, data.train, self.crops, _CANVAS)
            return RelationProbe.fit(embedding(crops), crops.boxes, seed=data.seed)

        return self._once("relation", fit, "the where-probe", say)

    def classifier(self, say: Say) -> LinearProbe:
        """Of the ten classes of PartScenes."""

        def fit(data: EvaluationData) -> LinearProbe:
            train = data.features(self.model, data.train)
            return fit_linear(train.embedding(), known(train.labels), seed=data.seed, **_SWEEP)

        return self._once("classifier", fit, "the classifier", say)

    def _once(self, key: Hashable, fit: Callable[[EvaluationData], Any], what: str, say: Say) -> Any:
        if key not in self._fitted:
            with self._scenes.lock:
                if key not in self._fitted:
                    say(f"{self.model.name}: fitting {what} to {self._scenes.count} scenes")
                    self._fitted[key] = fit(self._scenes.data)
        return self._fitted[key]

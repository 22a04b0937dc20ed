"""Correspondence: is a part of one object found again on another of its class, in another pose and light?

Pairs of images of one class; the keypoints are the middles of parts that both show. A keypoint's patch token is looked
for among the tokens of the other image (:mod:`.matching`): nothing is trained, so there is no training side.

    PCK @ a  =  keypoints found within a x max(width, height) of the target's object, of all keypoints

(percentage of correct keypoints, Yang and Ramanan 2013; with the object's box as in SPair-71k, Min et al. 2019,
arXiv:1908.10543.) *Chance* is the PCK of answering the keypoint's own place in the source image.

With PartScenes: the validation scenes at difficulty ``hard`` by default, where any part may have any colour and texture
(at ``easy``, colour tells parts), and pairs are of one fine class. Other images need a label and a column of parts.

Letters: n pairs, K keypoints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ....data.annotations import upright_size
from ....data.part_scenes.difficulty import DIFFICULTIES
from ....errors import InputError
from ...accuracy import LabelError
from ...features import ImageSample
from ...measure import Measure
from ...model import EvaluatedModel
from ...part_scenes import annotated_scenes, check_embedded
from ...source import DataSource
from ...task import Picture, Task, TaskResult, once_a_task, option
from ...what.dense.dense_task import patch_tokens
from .keypoints import Keypoints, keypoints_of, pairs_of
from .matching import is_near, match
from .pictures import Pair, draw_pairs

if TYPE_CHECKING:
    from ...data import EvaluationData

REACHES = {"pck_at_10": 0.1, "pck_at_20": 0.2}
_SHOWN = 5
_PARTS = "part_boxes"
_MASK = "segmentation"  # of PartScenes: which parts are seen


class Annotated(NamedTuple):
    """Images without annotations, what tokens are cached under, their keypoints by row, and pairs of rows."""

    images: ImageSample
    keypoints: list[Keypoints]
    pairs: list[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Correspondence(Task):
    """Parts of one object found again on another, in another pose and light."""

    name: ClassVar[str] = "correspondence"
    kind: ClassVar[Literal["what", "where"]] = "where"
    headline: ClassVar[tuple[str, ...]] = ("pck_at_10", "pck_at_20")

    images: int = option(500, "validation images, at most")
    size: int | None = option(None, "side in px onto which images are squashed; default: the model's own size")
    difficulty: str = option("hard", "of PartScenes")
    dataset: str | None = option(None, "other images with parts, as --dataset; their validation side is used")
    label_column: str | None = option(None, "of those: pairs are of one class; default: found by type")
    parts_column: str = option(_PARTS, "column of {part, box: cx cy w h}")

    def __post_init__(self) -> None:
        if self.images < 2 or (self.size is not None and self.size < 1):
            raise InputError(f"correspondence needs two images or more; got images = {self.images}, size = {self.size}")
        if self.difficulty not in DIFFICULTIES:
            raise InputError(f"PartScenes has no difficulty {self.difficulty!r}: {', '.join(DIFFICULTIES)}")

    def prepare(self, data: EvaluationData) -> None:
        if not self._annotated(data).pairs:
            raise LabelError("correspondence: no two validation images are of one class and share a part that is seen")

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        model.squashed(self.size)

    def _open(self, data: EvaluationData) -> tuple[ImageSample, ImageSample]:
        """Images, and the same rows with annotations."""
        if self.dataset is not None:
            most = data.at_most(self.images)
            source = DataSource(self.dataset, label_column=self.label_column, max_images=most)
            columns = (self.parts_column, _MASK) if source.embedded else (self.parts_column,)
            return data.sample(source, "validation"), data.sample(source, "validation", columns)
        check_embedded(data, self.name, "images with parts and classes")
        columns = (self.parts_column, _MASK)
        return annotated_scenes(data, "validation", None, self.images, columns, "fine_label", self.difficulty)

    @once_a_task
    def _annotated(self, data: EvaluationData) -> Annotated:
        images, annotated = self._open(data)
        if images.labels is None:
            raise LabelError(f"{images.images.description}: no labels; name them with --correspondence_label_column")
        keypoints = [keypoints_of(row[self.parts_column], row.get(_MASK)) for row in annotated.rows]
        pairs = [(a, b) for a, b in pairs_of(images.labels.tolist()) if _shared(keypoints[a], keypoints[b])]
        return Annotated(images, keypoints, pairs)

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        images, keypoints, pairs = self._annotated(data)
        tokens = patch_tokens(model, data, images, self.size)
        index = {row: place for place, row in enumerate(tokens.rows.tolist())}
        pairs = [(a, b) for a, b in pairs if a in index and b in index]
        counts = torch.zeros(len(pairs), 2, len(REACHES))  # found, and found at the same place
        asked = torch.zeros(len(pairs))
        shown: list[Pair] = []
        for number, (source, target) in enumerate(pairs):
            parts = _shared(keypoints[source], keypoints[target])
            points, truth = keypoints[source].of(parts), keypoints[target].of(parts)
            answer = match(tokens.of(index[source]), tokens.of(index[target]), tokens.grid, points)
            aspect = _aspect(images, target)
            size = max(keypoints[target].extent[0] * aspect, keypoints[target].extent[1])
            for column, reach in enumerate(REACHES.values()):
                for kind, given in enumerate((answer, points)):
                    counts[number, kind, column] = is_near(given, truth, aspect, reach * size).sum()
            asked[number] = len(parts)
            if len(shown) < _SHOWN and number % max(1, len(pairs) // _SHOWN) == 0:
                shown.append(Pair((source, target), points, truth, answer))
        return TaskResult(_measures(counts, asked), self._details(images, asked, tokens.grid, model), {
            "pairs": shown, "images": images,
        })  # fmt: skip

    def _details(
        self, images: ImageSample, asked: Tensor, grid: tuple[int, int], model: EvaluatedModel
    ) -> dict[str, Any]:
        described = images.images.description
        return {
            "pairs": len(asked),
            "keypoints": int(asked.sum()),
            "grid": list(grid),
            "size": self.size or model.size,
            "data": {"train": "nothing", "validation": described},
        }

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        path = folder / "correspondence.png"
        draw_pairs(path, {name: r.artifacts["pairs"] for name, r in results.items()}, _first(results)["images"])
        caption = (
            "Parts of the left image looked for in the others, one colour a part: rings where they are, crosses where"
            " the most similar patch tokens are."
        )
        return [Picture(path, caption)]


def _first(results: Mapping[str, TaskResult]) -> dict[str, Any]:
    return next(iter(results.values())).artifacts


def _shared(first: Keypoints, second: Keypoints) -> list[int]:
    return sorted(first.points.keys() & second.points.keys())


def _aspect(images: ImageSample, row: int) -> float:
    width, height = upright_size(images.rows[row][images.images.image_column])
    return width / height


def _measures(counts: Tensor, asked: Tensor) -> dict[str, Measure]:
    """Of counts [n, found or at the same place, reach] and numbers of keypoints [n]."""
    return {
        name: Measure(counts[:, 0, column], asked, percent=True, chance=float(counts[:, 1, column].sum() / asked.sum()))
        for column, name in enumerate(REACHES)
    }

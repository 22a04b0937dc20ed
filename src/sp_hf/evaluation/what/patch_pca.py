"""Pictures of patch tokens: their first three principal components as red, green and blue, as in DINOv2 (Oquab et al.
2023, arXiv:2304.07193, section 7.5, figure 1).

The components are those of the tokens of the training images, so that a colour means the same in every image of a
model; validation images are drawn. Each component runs from its 2nd to its 98th percentile over the drawn images, and
its sign is that which gives its distribution over the training tokens a positive skew, so that a run can be repeated.
Colours of different models cannot be compared, the shapes they make can.

    variance_of_3 = sum over validation tokens of |projection on the three|^2 / sum of |token - training mean|^2

says how much of the tokens' variance the picture shows. No metric of quality: it is high for raw pixels.

Letters: n images, N tokens of an image, D feature size, t tokens, h, w rows and columns of tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data.annotations import upright_size
from ..measure import Measure
from ..model import EvaluatedModel
from ..probes.standardise import spread
from ..task import Picture, Task, TaskResult, TaskSkipped, option
from .dense.dense_task import Tokens, patch_tokens
from .dense.pictures import Panel, draw_maps, shown, thumbnail

if TYPE_CHECKING:
    from ..data import EvaluationData

COMPONENTS = 3
_PERCENTILES = (2, 98)
_MAX_TOKENS = 50_000


class Components(NamedTuple):
    """Principal components of tokens.

    Args:
        mean: float32 [D].
        directions: float32 [D, 3], orthonormal.
    """

    mean: Tensor
    directions: Tensor

    @classmethod
    def fit(cls, tokens: Tensor) -> Components:
        """Of float32 [t, D]; a token of fewer than three features has zeros for the others."""
        mean = tokens.mean(0)
        centred = (tokens - mean).double()
        _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
        directions = vectors.flip(1)[:, :COMPONENTS]
        skew = (centred @ directions).pow(3).sum(0)
        directions = directions * torch.where(skew < 0, -1.0, 1.0)
        missing = COMPONENTS - directions.shape[1]
        return cls(mean, torch.nn.functional.pad(directions, (0, max(0, missing))).float())

    def project(self, tokens: Tensor) -> Tensor:
        """[..., D] to [..., 3]."""
        return (tokens - self.mean) @ self.directions


@dataclasses.dataclass(frozen=True)
class PatchPCA(Task):
    """Pictures of patch tokens: three principal components as colours."""

    name: ClassVar[str] = "patch-pca"
    kind: ClassVar[Literal["what", "where"]] = "what"
    headline: ClassVar[tuple[str, ...]] = ("variance_of_3",)

    size: int | None = option(None, "side in px onto which images are squashed; default: the model's own size")
    images: int | None = option(200, "images of each side, at most; 0 for all")

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        model.squashed(self.size)

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        limits = [limit for limit in (self.images, data.source.max_images) if limit]
        source = dataclasses.replace(data.source, max_images=min(limits, default=None))
        train = patch_tokens(model, data, data.sample(source, "train"), self.size)
        images = data.sample(source, "validation")
        validation = patch_tokens(model, data, images, self.size)
        drawn = _drawn(train, data.seed)
        if spread(drawn).isinf().all():
            raise TaskSkipped("its patch tokens do not vary at all")
        components = Components.fit(drawn)
        sums, panels = [], []
        for index, row in enumerate(validation.rows.tolist()):
            tokens = validation.of(index)
            projected = components.project(tokens)
            sums.append((projected.square().sum(), (tokens - components.mean).square().sum()))
            if index in shown(len(validation.rows)):
                width, height = upright_size(images.rows[row][images.images.image_column])
                components_map = projected.unflatten(0, validation.grid).numpy()
                panels.append(Panel(thumbnail(images, row), (height, width), components_map))
        explained, total = (torch.stack(column) for column in zip(*sums, strict=True))
        details = {"train_images": len(train.rows), "size": self.size or model.size, "grid": list(validation.grid)}
        return TaskResult({"variance_of_3": Measure(explained, total, percent=True)}, details, {"panels": panels})

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        path = folder / "patch_pca.png"
        draw_maps(path, {model: _coloured(result.artifacts["panels"]) for model, result in results.items()})
        return [
            Picture(
                path, "First three principal components of patch tokens, as red, green and blue, scaled for each model"
            )
        ]


def _drawn(tokens: Tokens, seed: int) -> Tensor:
    """At most 50,000 tokens, float32 [t, D]."""
    n, per_image = tokens.values.shape[:2]
    chosen = np.arange(n * per_image)
    if len(chosen) > _MAX_TOKENS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(chosen), _MAX_TOKENS, replace=False))
    return torch.from_numpy(tokens.values[chosen // per_image, chosen % per_image].astype(np.float32))


def _coloured(panels: list[Panel]) -> list[Panel]:
    """Components [h, w, 3] to colours in [0, 1], on one scale for all images of a model."""
    values = np.concatenate([panel.predicted.reshape(-1, COMPONENTS) for panel in panels])
    low, high = np.percentile(values, _PERCENTILES, axis=0)
    span = np.where(high > low, high - low, 1)
    return [panel._replace(predicted=np.clip((panel.predicted - low) / span, 0, 1)) for panel in panels]

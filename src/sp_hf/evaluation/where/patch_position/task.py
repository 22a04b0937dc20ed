"""Absolute position: does a patch token tell where in the image its patch is?

- ``r2`` (of rows and columns, and ``r2_row``, ``r2_column``): ridge regression of the patch's centre on the final patch
  token, on images that it was not fitted to (:mod:`.probe`). Content tells position, too: skies are above. Raw pixels
  and the untrained architecture say how much.
- ``positional_share``: the share of the tokens' variance that the place explains, on noise images, which have no
  content (:mod:`.positional_share`); ``positional_share_images``, on the validation images.

Whole images are squashed onto a square, as for the dense tasks, whose cached tokens are shared. Much or little of it is
neither good nor bad: relations need position, and correspondence of parts suffers from it.

Letters: n images, K tokens of an image that are asked, N all of them, D feature size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from ....errors import InputError
from ...features import evaluating
from ...model import EvaluatedModel
from ...probes.hold_out import MIN_IMAGES
from ...task import Picture, Task, TaskResult, option
from ...what.dense.dense_task import Tokens, patch_tokens
from ...whole_images import encode_pixels
from .pictures import draw_positions
from .positional_share import NOISE_IMAGES, noise_images, positional_dimensions, positional_share
from .probe import PROBE, drawn_positions, patch_centres, probe_positions

if TYPE_CHECKING:
    from ...data import EvaluationData


@dataclasses.dataclass(frozen=True)
class PatchPosition(Task):
    """Where in the image a patch is, told by its token."""

    name: ClassVar[str] = "patch-position"
    kind: ClassVar[Literal["what", "where"]] = "where"
    headline: ClassVar[tuple[str, ...]] = ("r2", "positional_share")

    images: int | None = option(1000, "images of each side, at most; 0 for all")
    size: int | None = option(None, "side in px onto which images are squashed; default: the model's own size")
    noise_images: int = option(NOISE_IMAGES, "images of noise")

    def __post_init__(self) -> None:
        if self.noise_images < 2 or (self.images or 0) < 0 or (self.size is not None and self.size < 1):
            raise InputError(
                f"patch-position needs two noise images or more, and sizes from 1 px; got noise_images ="
                f" {self.noise_images}, images = {self.images}, size = {self.size}"
            )

    def prepare(self, data: EvaluationData) -> None:
        count = len(data.limited(self.images)[0].rows)
        if count < MIN_IMAGES:
            raise InputError(f"{count} training images are too few for {PROBE}; it needs {MIN_IMAGES} or more")

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        model.squashed(self.size)

    def run(self, model: EvaluatedModel, data: EvaluationData) -> TaskResult:
        sides = [patch_tokens(model, data, sample, self.size) for sample in data.limited(self.images)]
        train, validation = (_asked(side, data.seed + index) for index, side in enumerate(sides))
        measures, probe = probe_positions(train, validation, seed=data.seed, refits=data.refits)
        noise = self._noise_tokens(model, data)
        measures["positional_share"] = positional_share(noise)
        if len(sides[1].rows) > 1:
            chosen = sides[1].values[:NOISE_IMAGES]
            measures["positional_share_images"] = positional_share(torch.from_numpy(chosen.astype("float32")))
        details = {
            "train_images": len(sides[0].rows),
            "tokens_of_an_image": train[0].shape[1],
            "grid": list(sides[1].grid),
            "size": self.size or model.size,
            "penalties": probe.penalties.tolist(),
            "noise_images": self.noise_images,
            "positional_dimensions": positional_dimensions(noise),
        }
        answers = probe.predict(noise.mean(0))  # [N, 2]
        return TaskResult(measures, details, {"grid": sides[1].grid, "answers": answers})

    def _noise_tokens(self, model: EvaluatedModel, data: EvaluationData) -> Tensor:
        """float32 [noise images, N, D]."""
        noise = noise_images(self.noise_images, self.size or model.size, data.seed)
        with evaluating(model.encoder):
            batches = [encode_pixels(model, batch).patches.float().cpu() for batch in noise.split(data.batch_size)]
        return torch.cat(batches)

    def draw(self, results: Mapping[str, TaskResult], folder: Path) -> list[Picture]:
        if not results:
            return []
        path = folder / "patch_position.png"
        drawn = {name: (result.artifacts["grid"], result.artifacts["answers"]) for name, result in results.items()}
        draw_positions(path, drawn)
        caption = (
            "Where the probe takes each patch of noise to be: the mean tokens of noise images, which only have their"
            " place, in the image's frame; lines join neighbours. A regular grid: tokens tell their place."
        )
        return [Picture(path, caption)]


def _asked(side: Tokens, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens float32 [n, K, D] of some places of each image, and the places [n, K, 2]."""
    chosen = drawn_positions(len(side.rows), side.grid, seed)
    tokens = torch.from_numpy(side.values[torch.arange(len(chosen))[:, None].numpy(), chosen.numpy()]).float()
    return tokens, patch_centres(side.grid)[chosen]

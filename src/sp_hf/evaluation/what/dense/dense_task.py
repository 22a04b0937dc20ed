"""The base of segmentation and depth: images with an annotation a pixel, and the patch tokens of frozen encoders.

- **Geometry.** The whole image is squashed onto a square (bicubic), whatever the model's own image processor does, so
  that nothing is cropped away; the annotation keeps its own resolution (see
  :mod:`sp_hf.evaluation.what.dense.patch_targets`).
- **Tokens.** The final patch tokens, without the class token, kept as float16; one sample of images for all dense
  tasks, so that they share cached tokens.
- **Head.** Fitted on the tokens of the training images (100,000 drawn at random where there are more), but those
  without a target, standardised by them. 20 % of the training images choose its hyperparameters, never the validation
  images.

Letters: n images, N tokens of an image, D feature size, t tokens that the head is fitted on, T targets.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar

import datasets
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ....data.annotations import AnnotationError, decode_annotation, upright_size
from ....data.canvas import UnreadableImage
from ....data.columns import ColumnError
from ....encoders.encoder import Encoding
from ....errors import InputError
from ...features import ImageSample
from ...model import EvaluatedModel
from ...probes.hold_out import MIN_IMAGES, first_share
from ...probes.standardise import Standardisation
from ...task import Task, once_a_task, option
from .patch_targets import Grid

if TYPE_CHECKING:
    from ...data import EvaluationData
    from ...source import DataSource

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_TOKENS = 100_000


class DenseSide(NamedTuple):
    """One side of a dataset with annotations.

    Args:
        images: the sample without its annotations: what tokens are cached under.
        annotated: the same rows with them.
        column: of the annotations.
        name: ``"training"`` or ``"validation"``.
        colours: uint8 [ids, 3], of annotations that are images of colours.
    """

    images: ImageSample
    annotated: ImageSample
    column: str
    name: str
    colours: np.ndarray | None = None

    def annotation(self, row: int) -> np.ndarray:
        """[H, W], see :func:`~sp_hf.data.annotations.decode_annotation`."""
        return decode_annotation(self.annotated.rows[row][self.column], colours=self.colours)

    def scan(self, summarise: Callable[[np.ndarray], T], progress: bool) -> dict[int, T]:
        """Something of every annotation, by row; unreadable ones are left out and reported.

        Raises:
            AnnotationError: one of the wrong kind, or of other proportions than its image.
            ValueError: not one can be read.
        """
        values: dict[int, T] = {}
        rows = range(len(self.annotated.rows))
        for row in tqdm(rows, desc=f"{self.name} annotations", unit="image", disable=not progress, leave=False):
            cells = self.annotated.rows[row]
            try:
                annotation = decode_annotation(cells[self.column], colours=self.colours)
                width, height = upright_size(cells[self.annotated.images.image_column])
            except UnreadableImage as error:
                logger.warning("skipped an unreadable image or annotation: %s", error)
                continue
            _check_proportions(annotation.shape, (height, width), f"row {row} of {self.images.images.description}")
            values[row] = summarise(annotation)
        if not values:
            raise InputError(f"{self.images.images.description}: not one annotation of {self.column!r} can be read")
        return values


def _check_proportions(annotation: tuple[int, int], image: tuple[int, int], what: str) -> None:
    """A pixel more or less on each side is rounding; more, and the annotation shows something else."""
    (height, width), (image_height, image_width) = annotation, image
    difference = abs(math.log((width / height) / (image_width / image_height)))
    if difference > 0.01 + 1 / width + 1 / height + 1 / image_width + 1 / image_height:
        raise AnnotationError(
            f"{what}: an annotation of {width}x{height} px does not fit its image of {image_width}x{image_height} px"
        )


class Tokens(NamedTuple):
    """Patch tokens of the images of one side.

    Args:
        values: float16 [n, N, D], memory-mapped where they are cached.
        rows: int64 [n], which rows of the sample they are.
        grid: (h, w), N = h w.
    """

    values: np.ndarray
    rows: np.ndarray
    grid: Grid

    def of(self, index: int) -> Tensor:
        """float32 [N, D] of one image."""
        return torch.from_numpy(self.values[index].astype(np.float32))


class TrainingTokens(NamedTuple):
    """The tokens that a head is fitted on, with their targets.

    Args:
        x: float32 [t, D], standardised.
        targets: float32 [t, T].
        weights: float32 [t], positive.
        standardise: what made tokens [..., D] into ``x``.
        held_out: bool [t], those of the images that choose hyperparameters.
    """

    x: Tensor
    targets: Tensor
    weights: Tensor
    standardise: Standardisation
    held_out: Tensor


class DrawnTokens(NamedTuple):
    """Tokens of training images with a target, as they are.

    Args:
        x: float32 [t, D].
        targets: float32 [t, T].
        weights: float32 [t], positive.
        held_out: bool [t], those of the images that choose hyperparameters.
    """

    x: Tensor
    targets: Tensor
    weights: Tensor
    held_out: Tensor


def drawn_tokens(
    tokens: Tokens, target: Callable[[int], tuple[np.ndarray, np.ndarray]], seed: int, max_tokens: int
) -> DrawnTokens:
    """Draw tokens of the training images.

    Args:
        tokens: of the training images.
        target: from a row of the sample to its tokens' targets [N, T] and weights [N]; tokens of weight 0 have no
            target and are left out.
        seed: of the draw and of the held-out images.
        max_tokens: at most so many are drawn.
    """
    n, per_image = tokens.values.shape[:2]
    generator = np.random.default_rng(seed)
    held_out = first_share(torch.from_numpy(generator.permutation(n)))
    drawn = np.arange(n * per_image)
    if len(drawn) > max_tokens:
        drawn = np.sort(generator.choice(len(drawn), max_tokens, replace=False))
    image, token = np.divmod(drawn, per_image)
    starts = np.searchsorted(image, np.arange(n + 1))
    parts = []
    for index, row in enumerate(tokens.rows):
        chosen = token[starts[index] : starts[index + 1]]
        parts.append([values[chosen] for values in target(int(row))])
    targets, weights = (torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))
    kept = weights > 0
    x = torch.from_numpy(tokens.values[image[kept], token[kept]].astype(np.float32))
    return DrawnTokens(x, targets[kept], weights[kept], held_out[torch.from_numpy(image)][kept])


def training_tokens(
    tokens: Tokens,
    target: Callable[[int], tuple[np.ndarray, np.ndarray]],
    seed: int,
    max_tokens: int = MAX_TOKENS,
) -> TrainingTokens:
    """The tokens that a head is fitted on, standardised; arguments as for :func:`drawn_tokens`."""
    x, targets, weights, held_out = drawn_tokens(tokens, target, seed, max_tokens)
    standardise = Standardisation.of(x)
    return TrainingTokens(standardise(x), targets, weights, standardise, held_out)


def patch_tokens(model: EvaluatedModel, data: EvaluationData, sample: ImageSample, size: int | None) -> Tokens:
    """Tokens of whole images, squashed onto a square of ``size`` px (``None``: the model's own), cached."""
    squashed = model.squashed(size)
    arrays = data.encode(squashed, sample, _patches, "patches as float16")
    return Tokens(arrays["patches"], np.asarray(arrays["rows"]), squashed.encoder.patches_of(squashed.size))


def _patches(encoding: Encoding) -> dict[str, Tensor]:
    return {"patches": encoding.patches.half()}


@dataclasses.dataclass(frozen=True)
class DenseTask(Task):
    """Base of tasks that predict something of every pixel from patch tokens."""

    kind: ClassVar[Literal["what", "where"]] = "what"
    target_columns: ClassVar[tuple[str, ...]]  # looked for in this order

    dataset: str | None = option(None, "images with annotations; default: --dataset")
    split: str | None = option(None, "its training split; default: train")
    config: str | None = option(None, "configuration of a Hub dataset")
    validation_dataset: str | None = option(None, "validation side; default: the same dataset")
    validation_split: str | None = option(None, "its split; default: validation, val or test")
    image_column: str | None = option(None, "default: found by name or type")
    target_column: str | None = option(None, "column of annotations, images of one channel; default: found by name")
    size: int | None = option(None, "side in px onto which images are squashed; default: the model's own size")
    images: int | None = option(1000, "images of each side, at most; 0 for all")

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1 or self.images is not None and self.images < 0:
            raise InputError(f"{self.name}: size is {self.size} and images is {self.images}; sizes start at 1 px")

    @once_a_task
    def sides(self, data: EvaluationData) -> tuple[DenseSide, DenseSide]:
        """Training and validation side, opened once a run.

        Raises:
            ValueError: no column of annotations; says which flag to give.
            DatasetLoadError, ColumnError: see :func:`~sp_hf.data.datasets.load_images`.
        """
        return self._open(data, "train"), self._open(data, "validation")

    def check(self, model: EvaluatedModel, data: EvaluationData) -> None:
        model.squashed(self.size)

    def colours_of_ids(self) -> np.ndarray | None:
        """uint8 [ids, 3], where annotations may be images of colours."""
        return None

    def _source(self, data: EvaluationData) -> DataSource:
        """The run's own, or another dataset, with at most ``images`` images a side."""
        fields = {
            "dataset_split": self.split,
            "dataset_config": self.config,
            "validation_dataset": self.validation_dataset,
            "validation_dataset_split": self.validation_split,
            "image_column": self.image_column,
        }
        given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        limits = [limit for limit in (self.images, data.source.max_images) if limit]
        given["max_images"] = min(limits, default=None)
        if self.dataset is None:
            return dataclasses.replace(data.source, **given)
        return type(data.source)(dataset=self.dataset, **given)

    def _open(self, data: EvaluationData, side: str) -> DenseSide:
        source = self._source(data)
        name = "training" if side == "train" else side
        for column in (self.target_column,) if self.target_column else self.target_columns:
            for image_column in (source.image_column,) if source.image_column else (None, "image"):
                described = dataclasses.replace(source, image_column=image_column)
                try:
                    annotated = data.sample(described, side, (column,))
                except ColumnError as error:
                    reason = error
                    continue
                if _holds_images(annotated.images.dataset.features[column]):
                    return DenseSide(data.sample(described, side), annotated, column, name, self.colours_of_ids())
                reason = ColumnError(f"{column!r} of {annotated.images.description} holds no images")
        raise InputError(
            f"{self.name} needs a column of annotations (images of one number a pixel; looked for:"
            f" {', '.join(self.target_columns)}) in {source.dataset}: name it with --{self.name}_target_column, or"
            f" images that have one with --{self.name}_dataset. ({reason})"
        ) from reason


def _holds_images(feature: object) -> bool:
    encoded = isinstance(feature, dict) and set(feature) == {"bytes", "path"}
    return isinstance(feature, datasets.Image) or encoded or getattr(feature, "dtype", "") in ("binary", "large_binary")


def check_count(rows: Sequence[int] | Mapping[int, object], side: DenseSide, task: str) -> None:
    """Raise ValueError if there are too few training images to hold some out."""
    if len(rows) < MIN_IMAGES:
        raise InputError(
            f"{task}: {len(rows)} training images with annotations in {side.images.images.description}; it needs"
            f" {MIN_IMAGES} or more"
        )


def readable(tokens: Tokens, rows: Iterable[int]) -> Tokens:
    """Only images whose annotation can be read."""
    kept = np.flatnonzero(np.isin(tokens.rows, np.fromiter(rows, np.int64)))
    if len(kept) == len(tokens.rows):
        return tokens
    return Tokens(tokens.values[kept], tokens.rows[kept], tokens.grid)

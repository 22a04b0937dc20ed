"""A dataset with a column of boxes around what an encoder's patch tokens take for objects, computed once.

Views are cut from them by ``ViewSpec(boxes="object_boxes")``, of any objective.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch

from ..encoders.object_boxes import object_boxes
from ..errors import DataError, InputTypeError
from .canvas import UnreadableImage, make_canvas

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder

COLUMN = "object_boxes"


def with_object_boxes(
    dataset: datasets.Dataset,
    encoder: Encoder,
    *,
    column: str = COLUMN,
    image_column: str = "image",
    size: int | None = None,
    count: int = 1,
    batch_size: int = 32,
) -> datasets.Dataset:
    """The dataset and its boxes; kept in the cache of ``datasets``, for these rows, weights and options.

    Args:
        dataset: of images.
        encoder: its patch tokens are read, on the device it is on.
        column: the new one: lists of (cx, cy, width, height) as fractions of the image; empty where nothing stands out,
            or the image cannot be read.
        image_column: the one with the images.
        size: side in px that whole images are squashed to; ``None``: the encoder's own.
        count: of boxes an image, at most.
        batch_size: images a forward.

    Raises:
        TypeError: another kind of dataset.
        DataError: no such column of images, or one of the new name.
        ValueError: a size that the patch size does not divide, or of fewer than 3 patches a side.

    Example:
        >>> import sp_hf
        >>> scenes = sp_hf.part_scenes("train", size=32, num_images=4)
        >>> boxed = sp_hf.with_object_boxes(scenes, sp_hf.resolve_encoder("vit-micro-8", image_size=32))
        >>> len(boxed), "object_boxes" in boxed.column_names
        (4, True)
    """
    if not isinstance(dataset, datasets.Dataset):
        raise InputTypeError(f"boxes are computed for a datasets.Dataset, not for a {type(dataset).__name__}")
    if image_column not in dataset.column_names or column in dataset.column_names:
        raise DataError(
            f"the dataset has the columns {dataset.column_names}; name the one with images as image_column (it is"
            f" {image_column!r}) and a new one as column (it is {column!r})"
        )
    proposer = _Proposer(encoder, size or encoder.dimensions.image_size[0], column, image_column, count)
    rows = dataset.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))
    was_training = encoder.training
    encoder.eval()
    try:
        boxes = rows.map(
            proposer,
            batched=True,
            batch_size=batch_size,
            remove_columns=[image_column],
            features=datasets.Features({column: datasets.List(datasets.List(datasets.Value("float32"), length=4))}),
            new_fingerprint=proposer.fingerprint(dataset),
            desc="object boxes",
        )
    finally:
        encoder.train(was_training)
    return datasets.concatenate_datasets([dataset, boxes], axis=1)


@dataclasses.dataclass(frozen=True)
class _Proposer:
    """From a batch of rows to the column of boxes; the fields are the function's arguments."""

    encoder: Encoder
    side: int
    column: str
    image_column: str
    count: int

    @torch.no_grad()
    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        values = batch[self.image_column]
        canvases = {index: canvas for index, value in enumerate(values) if (canvas := self._canvas(value)) is not None}
        boxes_by_image: list[list[list[float]]] = [[] for _ in values]
        if canvases:
            device = self.encoder.patch_projection().weight.device
            pixels = torch.from_numpy(np.stack(list(canvases.values()))).to(device) / 255  # [B, 3, S, S]
            encoding = self.encoder(pixels)
            boxes = object_boxes(encoding.patches, encoding.grid, self.count).cpu()
            for index, own in zip(canvases, boxes, strict=True):
                boxes_by_image[index] = own[own[:, 2] > 0].tolist()
        return {self.column: boxes_by_image}

    def _canvas(self, value: Any) -> np.ndarray | None:
        try:
            return make_canvas(value, self.side)[0]
        except UnreadableImage:  # training reports it; here it only has no boxes
            return None

    def fingerprint(self, dataset: datasets.Dataset) -> str:
        """Differs where the boxes may: by rows, weights or options."""
        options = (self.side, self.column, self.image_column, self.count)
        text = f"{dataset._fingerprint} {options} {_digest(self.encoder)}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def _digest(encoder: Encoder) -> str:
    """Of the weights, and of what is done to pixels before them."""
    digest = hashlib.sha256(f"{type(encoder.model).__name__} {encoder.image_mean} {encoder.image_std}".encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

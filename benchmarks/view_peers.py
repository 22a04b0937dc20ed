"""DINO's views by other packages: what benchmarks/views.py times beside sp_hf. On its own it measures nothing."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

GLOBAL_AREA, LOCAL_AREA = (0.4, 1.0), (0.05, 0.4)
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}


class Sizes(NamedTuple):
    """Of the views, in pixels: two global ones, and local ones."""

    globals: int
    locals: int
    local_count: int

    @property
    def views(self) -> list[tuple[int, tuple[float, float], float, float]]:
        """(side, area, probability of blur, of solarise) of each view."""
        wide = [(self.globals, GLOBAL_AREA, 1.0, 0.0), (self.globals, GLOBAL_AREA, 0.1, 0.2)]
        return [*wide, *[(self.locals, LOCAL_AREA, 0.5, 0.0)] * self.local_count]


class Peer(NamedTuple):
    """One package's pipeline."""

    decode: Callable[[Sequence[bytes]], Any]  # JPEGs to what ``views`` takes
    prepare: Callable[[Sequence[Image.Image]], Any]  # decoded images to the same
    views: Callable[[Any], object]


def _opened(files: Sequence[bytes]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(file)).convert("RGB") for file in files]


def albumentations(sizes: Sizes, antialias: bool = False) -> Peer:
    """Of arrays, decoded and resized by OpenCV: as it comes, without antialiasing, or by INTER_AREA, with it."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A
    import cv2

    cv2.setNumThreads(1)
    interpolation = cv2.INTER_AREA if antialias else cv2.INTER_LINEAR

    def transform(size: int, area: tuple[float, float], blur: float, solarise: float) -> Any:
        steps = [
            A.RandomResizedCrop(size=(size, size), scale=area, interpolation=interpolation),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(**JITTER, p=0.8),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
            *([A.Solarize(p=solarise)] if solarise else []),
        ]
        return A.Compose(steps)

    transforms = [transform(*view) for view in sizes.views]

    def tensor(pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format) / 255

    def decode(files: Sequence[bytes]) -> list[np.ndarray]:
        return [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB) for file in files]

    return Peer(
        decode,
        lambda images: [np.asarray(image) for image in images],
        lambda images: [[tensor(one(image=image)["image"]) for one in transforms] for image in images],
    )


def kornia(sizes: Sizes) -> Peer:
    """Batches of float tensors of one size."""
    from kornia import augmentation as K

    def transform(size: int, area: tuple[float, float], blur: float, solarise: float) -> Any:
        return K.AugmentationSequential(
            K.RandomResizedCrop((size, size), scale=area),
            K.RandomHorizontalFlip(),
            K.ColorJitter(*JITTER.values(), p=0.8),
            K.RandomGrayscale(p=0.2),
            K.RandomGaussianBlur((9, 9), (0.1, 2.0), p=blur),
            K.RandomSolarize(0.5, 0.0, p=solarise),
        )

    transforms = [transform(*view) for view in sizes.views]

    def prepare(images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).float() / 255

    return Peer(lambda files: prepare(_opened(files)), prepare, lambda batch: [one(batch) for one in transforms])


def lightly(sizes: Sizes) -> Peer:
    """Its DINOTransform, of torchvision's transforms of PIL images."""
    from lightly.transforms import DINOTransform

    transform = DINOTransform(
        global_crop_size=sizes.globals, local_crop_size=sizes.locals, n_local_views=sizes.local_count
    )
    return Peer(_opened, list, lambda images: [transform(image) for image in images])


def torchvision(sizes: Sizes) -> Peer:
    """Its transforms v2, on uint8 tensors."""
    from torchvision.transforms import v2

    def transform(size: int, area: tuple[float, float], blur: float, solarise: float) -> Any:
        return v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=area, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(**JITTER)], p=0.8),
                v2.RandomGrayscale(p=0.2),
                v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], p=blur),
                v2.RandomSolarize(128, p=solarise),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )

    transforms = [transform(*view) for view in sizes.views]

    def prepare(images: Sequence[Image.Image]) -> list[torch.Tensor]:
        return [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]

    return Peer(
        lambda files: prepare(_opened(files)),
        prepare,
        lambda images: [[one(image) for one in transforms] for image in images],
    )


def stable_pretraining(sizes: Sizes) -> Peer:
    """Its own versions of torchvision's transforms, which note their parameters in the sample."""
    from stable_pretraining.data import transforms as T

    def transform(size: int, area: tuple[float, float], blur: float, solarise: float) -> Any:
        return T.Compose(
            T.RGB(),
            T.RandomResizedCrop((size, size), scale=area),
            T.RandomHorizontalFlip(p=0.5),
            T.ColorJitter(**JITTER, p=0.8),
            T.RandomGrayscale(p=0.2),
            T.GaussianBlur(kernel_size=(9, 9), p=blur),
            T.RandomSolarize(threshold=0.5, p=solarise),
            T.ToImage(),
        )

    transforms = [transform(*view) for view in sizes.views]
    return Peer(_opened, list, lambda images: [[one({"image": image}) for one in transforms] for image in images])


PEERS: dict[str, Callable[[Sizes], Peer]] = {
    "albumentations, not antialiased": albumentations,
    "albumentations, INTER_AREA": functools.partial(albumentations, antialias=True),
    "kornia, batched": kornia,
    "lightly": lightly,
    "torchvision v2": torchvision,
    "stable-pretraining": stable_pretraining,
}

"""Views: crops of a batch of canvases, with their exact boxes, made on the device.

Letters: B images, V views of one image, S canvas side in pixels, N output side in pixels.

A canvas is the WHOLE image squashed to a uint8 square, with the true image's aspect ratio (width / height) kept beside
it. Boxes live in the image's normalised coordinates, which are the canvas's; a crop undoes the squash.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .boxes import BOX_NUMBERS, boxes_from
from .keyed_random import uniform_streams
from .photometric import NUMBERS, colour_matrices, finish, jitter_from
from .resampling import extra_variance, filter_weights, resample
from .spec import ViewSpec

_CPU_FLOATS = 1 << 20  # in flight at once: what a core's cache holds
_DEVICE_FLOATS = 1 << 28


class Views(NamedTuple):
    """A view set of a batch.

    Args:
        pixels: float32 [B, V, 3, N, N] in [0, 1].
        boxes: float32 [B, V, 4], cxcywh in the UNFLIPPED image's frame (for the other: :func:`~.geometry.mirror`).
        flips: bool [B, V], which views are mirrored.
    """

    pixels: Tensor
    boxes: Tensor
    flips: Tensor


class ViewSampler:
    """Canvases to views, all crops of a spec in one batched resampling.

    What a spec yields depends on the image, its key and the spec's name only: not on the batch, nor on other specs.
    On a CUDA device the resampling runs in half precision (pixels 0 to 255 are exact in it), which agrees with
    the CPU to about a quarter of a grey level.

    Args:
        specs: view sets by name.
    """

    def __init__(self, specs: Mapping[str, ViewSpec]) -> None:
        self.specs = dict(specs)

    @torch.no_grad()
    def __call__(self, canvases: Tensor, aspects: Tensor, keys: Tensor) -> dict[str, Views]:
        """Sample every view set.

        Args:
            canvases: uint8 [B, 3, S, S].
            aspects: float [B], width / height of the true images.
            keys: int64 [B], one random key an image.

        Raises:
            ValueError: an argument of another type or shape.
        """
        _check_batch(canvases, aspects, keys)
        dtype = torch.float16 if canvases.device.type == "cuda" else torch.float32
        with torch.autocast(canvases.device.type, enabled=False):  # bf16 would round pixels
            rows_first = canvases.permute(0, 2, 1, 3).to(dtype, memory_format=torch.contiguous_format)  # [B, S, 3, S]
            numbers = uniform_streams(keys, {k: v for name, spec in self.specs.items() for k, v in _needs(name, spec)})
            return {name: _sample(spec, name, rows_first, aspects, numbers) for name, spec in self.specs.items()}


def _needs(name: str, spec: ViewSpec) -> list[tuple[str, tuple[int, ...]]]:
    """Streams of random numbers, and how many of each an image, that a view set takes."""
    return [
        (f"{name}/box", (spec.count, BOX_NUMBERS)),
        (f"{name}/flip", ({"own": spec.count, "shared": 1, "none": 0}[spec.flip],)),
        (f"{name}/photometric", (spec.count, NUMBERS)),
        (f"{name}/resolution", (spec.count,)),
    ]


def _sample(spec: ViewSpec, name: str, canvases: Tensor, aspects: Tensor, numbers: Mapping[str, Tensor]) -> Views:
    """One view set. canvases: [B, S, 3, S] in 0 .. 255; numbers: uniform, by stream."""
    batch, canvas = canvases.shape[:2]
    boxes = boxes_from(numbers[f"{name}/box"], spec, aspects)  # [B, V, 4]
    flips = _flips(numbers[f"{name}/flip"], spec)  # [B, V]
    jitter = jitter_from(numbers[f"{name}/photometric"], spec.photometric)
    blur = _blur(spec, numbers[f"{name}/resolution"], boxes, jitter.blur, canvas)
    axes = torch.stack([flips, torch.zeros_like(flips)])  # [2, B, V], which axes run backwards: x may, y never
    matrices = colour_matrices(jitter) if spec.photometric.changes_colour else None
    solarised = spec.photometric.solarised_views(spec.count)
    pixels = torch.empty(batch, spec.count, 3, spec.size, spec.size, device=canvases.device)
    budget = _CPU_FLOATS if canvases.device.type == "cpu" else _DEVICE_FLOATS
    chunk = max(1, budget // (3 * spec.count * spec.size * max(canvas, spec.size)))
    for start in range(0, batch, chunk):
        part = slice(start, start + chunk)
        centres, extents = boxes[part].movedim(-1, 0).split(2)  # [2, B, V], x and y
        blurs = None if blur is None else blur[:, part]
        columns, rows = filter_weights(centres, extents, spec.size, canvas, axes[:, part], blurs)  # [B, V, N, S]
        colours = None if matrices is None else matrices[part]
        finish(resample(canvases[part], rows, columns), jitter.of(part), colours, solarised, out=pixels[part])
    return Views(pixels, boxes, flips)


def _flips(coins: Tensor, spec: ViewSpec) -> Tensor:
    """Which views are mirrored: bool [B, V], from uniform numbers [B, V], [B, 1] or [B, 0]."""
    if spec.flip == "none":
        return torch.zeros(coins.shape[0], spec.count, dtype=torch.bool, device=coins.device)
    return (coins < 0.5).expand(-1, spec.count)


def _blur(spec: ViewSpec, numbers: Tensor, boxes: Tensor, blur: Tensor, canvas: int) -> Tensor | None:
    """Variances of blur in x and y, the defence included: [2, B, V], squared output pixels; ``None``: never any."""
    if spec.effective_resolution is not None:
        low, high = (math.log(end) for end in spec.effective_resolution)
        resolution = (low + (high - low) * numbers).exp()  # [B, V]
        zoom = boxes[..., 2:].movedim(-1, 0) * (canvas / spec.size)  # [2, B, V], canvas pixels to an output pixel
        return blur + extra_variance(zoom, resolution)
    return blur.expand(2, -1, -1) if spec.photometric.blurs else None


def _check_batch(canvases: Tensor, aspects: Tensor, keys: Tensor) -> None:
    shape = tuple(canvases.shape)
    if canvases.dtype != torch.uint8 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise ValueError(f"canvases are {canvases.dtype} of shape {shape}; they must be uint8 of shape [B, 3, S, S]")
    if aspects.shape != shape[:1] or not aspects.is_floating_point():
        raise ValueError(
            f"aspects are {aspects.dtype} of shape {tuple(aspects.shape)}; they must be float of shape [{shape[0]}]"
        )
    if keys.shape != shape[:1] or keys.dtype != torch.int64:
        raise ValueError(
            f"keys are {keys.dtype} of shape {tuple(keys.shape)}; they must be int64 of shape [{shape[0]}]"
        )

"""Views: crops of a batch of canvases, with their exact boxes, made on the device.

Letters: B images, V views of one image, S canvas side in pixels, N output side in pixels.

A canvas is the WHOLE image squashed to a uint8 square, with the true image's aspect ratio (width / height) kept beside
it. Boxes live in the image's normalised coordinates, which are the canvas's; a crop undoes the squash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .crops import crop, in_bands
from .keyed_random import uniform_streams
from .layout import layout_boxes, layout_numbers, parents_first, position_boxes
from .photometric import NUMBERS, colour_matrices, finish, jitter_from
from .resampling import extra_variance
from .rotated import fit_rotated, resample_rotated
from .spec import ViewSpec

_CPU_FLOATS = 1 << 20  # in flight at once: what a core's cache holds
_DEVICE_FLOATS = 1 << 28


class Views(NamedTuple):
    """A view set of a batch.

    Args:
        pixels: float32 [B, V, 3, N, N] in [0, 1].
        boxes: float32 [B, V, 4], cxcywh in the UNFLIPPED image's frame (for the other: :func:`~.geometry.mirror`).
            ``None``, as ``flips``, for pixels of an objective's own making that no box describes (a montage).
        flips: bool [B, V], which views are mirrored.
        angles: float32 [B, V], radians by which boxes are turned (:mod:`.rotated`); ``None``: none is.
        position_boxes: float32 [B, V, 4], boxes at which the encoder's positions are sampled (``positions: crop`` of
            the spec); ``None``: positions are laid over the views.
        aspects: float32 [B, V], width / height of the images, of which a turned box's shape is; ``None``: none is.
    """

    pixels: Tensor
    boxes: Tensor | None = None
    flips: Tensor | None = None
    angles: Tensor | None = None
    position_boxes: Tensor | None = None
    aspects: Tensor | None = None

    def each(self, function: Callable[[Tensor], Tensor]) -> Views:
        """The set with every tensor put through ``function``: some of its images, or its views in another order."""
        return self._replace(**{name: function(t) for name, t in self._asdict().items() if t is not None})

    @property
    def drawn(self) -> tuple[Tensor, Tensor]:
        """``boxes`` and ``flips``, of a set that was drawn from images.

        Raises:
            InputError: pixels of an objective's own making.
        """
        if self.boxes is None or self.flips is None:
            raise InputError("these views have no boxes or flips: they were made of others, and not drawn from images")
        return self.boxes, self.flips

    @property
    def places(self) -> Tensor:
        """Boxes [B, V, 4] in the position field, for positions that follow the crop.

        Raises:
            ValueError: nobody can say where the pixels lie, or they are turned.
        """
        if self.boxes is None or self.flips is None:
            raise InputError("positions: crop, but these views have no boxes or flips; give them, or positions: view.")
        if self.angles is not None:
            raise InputError("positions: crop, but these views are turned; leave out their rotation.")
        return self.boxes if self.position_boxes is None else self.position_boxes


class ViewSampler:
    """Canvases to views, all crops of a spec in one batched resampling.

    What a spec yields depends on the image, its key and the spec's name only: not on the batch, nor on other specs.
    On a CUDA device the resampling runs in half precision (pixels 0 to 255 are exact in it), which agrees with
    the CPU to about a quarter of a grey level.

    Args:
        specs: view sets by name.

    Example:
        >>> import torch, sp_hf
        >>> sampler = sp_hf.ViewSampler({"local": sp_hf.ViewSpec(count=4, size=24, area=(0.05, 0.4))})
        >>> canvases = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
        >>> views = sampler(canvases, torch.ones(2), torch.arange(2))["local"]
        >>> views.pixels.shape, views.boxes.shape
        (torch.Size([2, 4, 3, 24, 24]), torch.Size([2, 4, 4]))
    """

    def __init__(self, specs: Mapping[str, ViewSpec]) -> None:
        self.specs = dict(specs)
        self._order = parents_first(self.specs)

    @torch.no_grad()
    def __call__(
        self, canvases: Tensor, aspects: Tensor, keys: Tensor, boxes: Mapping[str, Tensor] | None = None
    ) -> dict[str, Views]:
        """Sample every view set.

        Args:
            canvases: uint8 [B, 3, S, S].
            aspects: float [B], width / height of the true images.
            keys: int64 [B], one random key an image.
            boxes: {source: [B, K, 4]}, for specs whose boxes are given; see :func:`.layout.choose`.

        Raises:
            ValueError: an argument of another type or shape.
        """
        _check_batch(canvases, aspects, keys)
        dtype = torch.float16 if canvases.device.type == "cuda" else torch.float32
        with torch.autocast(canvases.device.type, enabled=False):  # bf16 would round pixels
            rows_first = canvases.permute(0, 2, 1, 3).to(dtype, memory_format=torch.contiguous_format)  # [B, S, 3, S]
            numbers = uniform_streams(keys, {k: v for name, spec in self.specs.items() for k, v in _needs(name, spec)})
            views: dict[str, Views] = {}
            for name in self._order:
                spec = self.specs[name]
                parent = None if spec.inside is None else views[spec.inside]
                given = None if spec.boxes is None else (boxes or {}).get(spec.boxes)
                views[name] = _sample(spec, name, rows_first, aspects, numbers, parent, given)
            return {name: views[name] for name in self.specs}


def _needs(name: str, spec: ViewSpec) -> list[tuple[str, tuple[int, ...]]]:
    """Streams of random numbers, and how many of each an image, that a view set takes."""
    needs = [
        *((f"{name}/{stream}", shape) for stream, shape in layout_numbers(spec).items()),
        (f"{name}/flip", ({"own": spec.count, "shared": 1, "parent": 0, "none": 0}[spec.flip],)),
        (f"{name}/photometric", (spec.count, NUMBERS)),
        (f"{name}/resolution", (spec.count,)),
    ]
    if spec.position_window is not None:
        needs.append((_window_stream(spec), (sum(spec.position_window) + 1,)))
    return needs


def _window_stream(spec: ViewSpec) -> str:
    """One window an image: all sets with the same distribution share it."""
    return f"position_window/{spec.position_window}"


def _sample(
    spec: ViewSpec,
    name: str,
    canvases: Tensor,
    aspects: Tensor,
    numbers: Mapping[str, Tensor],
    parent: Views | None,
    given: Tensor | None,
) -> Views:
    """One view set. canvases: [B, S, 3, S] in 0 .. 255; numbers: uniform, by stream; given: [B, K, 4] boxes."""
    own = {stream: numbers[f"{name}/{stream}"] for stream in layout_numbers(spec)}
    boxes = layout_boxes(own, spec, aspects, None if parent is None else parent.boxes, given)  # [B, V, 4]
    flips = _flips(numbers[f"{name}/flip"], spec, parent)  # [B, V]
    angles = None
    if spec.rotation:
        angles = (2 * own["angle"] - 1) * math.radians(spec.rotation)  # [B, V]
        boxes = fit_rotated(boxes, angles, aspects, spec.margin if parent is None else 0.0)
    pixels = _cut(spec, name, canvases, aspects, numbers, boxes, flips, angles)
    of_images = None if angles is None else aspects.float()[:, None].expand_as(angles)
    return Views(pixels, boxes, flips, angles, _position_boxes(spec, boxes, numbers), of_images)


def _position_boxes(spec: ViewSpec, boxes: Tensor, numbers: Mapping[str, Tensor]) -> Tensor | None:
    """Where in the position field the views with these boxes lie."""
    if spec.positions == "view" or spec.position_window is None:
        return None if spec.positions == "view" else boxes
    return position_boxes(boxes, numbers[_window_stream(spec)], spec.position_window)


def _cut(
    spec: ViewSpec,
    name: str,
    canvases: Tensor,
    aspects: Tensor,
    numbers: Mapping[str, Tensor],
    boxes: Tensor,
    flips: Tensor,
    angles: Tensor | None,
) -> Tensor:
    """Pixels [B, V, 3, N, N] of a set whose boxes [B, V, 4], flips [B, V] and angles [B, V] are settled."""
    batch, canvas = canvases.shape[:2]
    jitter = jitter_from(numbers[f"{name}/photometric"], spec.photometric)
    blur = _blur(spec, numbers[f"{name}/resolution"], boxes, jitter.blur, canvas)
    axes = torch.stack([flips, torch.zeros_like(flips)])  # [2, B, V], which axes run backwards: x may, y never
    matrices = colour_matrices(jitter) if spec.photometric.changes_colour else None
    solarised = spec.photometric.solarised_views(spec.count)
    pixels = torch.empty(batch, spec.count, 3, spec.size, spec.size, device=canvases.device)
    longest = spec.size if in_bands(canvases) else max(canvas, spec.size)  # of what lies between two products
    budget = _CPU_FLOATS if canvases.device.type == "cpu" else _DEVICE_FLOATS
    chunk = max(1, budget // (3 * spec.count * spec.size * longest))
    for start in range(0, batch, chunk):
        part = slice(start, start + chunk)
        colours = None if matrices is None else matrices[part]
        if angles is not None:
            turned = resample_rotated(canvases[part], boxes[part], angles[part], flips[part], aspects[part], spec.size)
            finish(turned, jitter.of(part), colours, solarised, out=pixels[part])
            continue
        centres, extents = boxes[part].movedim(-1, 0).split(2)  # [2, B, V], x and y
        blurs = None if blur is None else blur[:, part]
        resampled = crop(canvases[part], centres, extents, spec.size, axes[:, part], blurs)
        finish(resampled, jitter.of(part), colours, solarised, out=pixels[part])
    return pixels


def _flips(coins: Tensor, spec: ViewSpec, parent: Views | None) -> Tensor:
    """Which views are mirrored: bool [B, V], from uniform numbers [B, V], [B, 1] or [B, 0]."""
    if spec.flip == "parent" and parent is not None and parent.flips is not None:
        return parent.flips.repeat_interleave(spec.count // parent.flips.shape[1], dim=1)
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
        raise InputError(f"canvases are {canvases.dtype} of shape {shape}; they must be uint8 of shape [B, 3, S, S]")
    if aspects.shape != shape[:1] or not aspects.is_floating_point():
        raise InputError(
            f"aspects are {aspects.dtype} of shape {tuple(aspects.shape)}; they must be float of shape [{shape[0]}]"
        )
    if keys.shape != shape[:1] or keys.dtype != torch.int64:
        raise InputError(
            f"keys are {keys.dtype} of shape {tuple(keys.shape)}; they must be int64 of shape [{shape[0]}]"
        )

"""Turns the objectives' requests into encodings: each distinct (tower, resolution, mask) goes through its tower once.

Letters: B images, V views of one image, H pixels a side, N patch tokens, D hidden size.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..encoders.encoder import Encoder, Encoding
from ..errors import InputError
from ..objectives.base import Encode, TokenMask
from ..views.sampler import Views

Named = tuple[Encode, str]
"""A request, and the name of its view set that holds over all objectives."""
Identity = tuple[str, str, str | None, bool, int | None]


def with_positions(request: Encode, views: Views) -> Encode:
    """The request with its positions decided: where it leaves them open, the views say."""
    if request.positions is not None:
        return request
    return dataclasses.replace(request, positions="view" if views.position_boxes is None else "crop")


def identity(request: Encode, name: str) -> Identity:
    """What makes two requests the same: tower, view set, positions, gradient, and the very same mask object."""
    mask = None if request.mask is None else id(request.mask)
    return (request.tower, name, request.positions, request.gradient, mask)


def encode_all(
    requests: Sequence[Named], views: Mapping[str, Views], towers: Mapping[str, Encoder | None]
) -> dict[Identity, Encoding]:
    """Encode each distinct request once; unmasked ones of one tower, size and kind of positions share one forward.

    Raises:
        ValueError: a tower that is not there.
    """
    groups: dict[tuple, dict[Identity, Named]] = defaultdict(dict)
    for request, name in requests:
        size = views[name].pixels.shape[-2:]
        alone = identity(request, name) if request.mask is not None else None
        group = (request.tower, size, request.positions, request.gradient, alone)
        groups[group][identity(request, name)] = (request, name)
    encoded: dict[Identity, Encoding] = {}
    for members in groups.values():
        sets = [views[name] for _, name in members.values()]
        encoding = _run(next(iter(members.values()))[0], sets, towers)
        counts = [s.pixels.shape[0] * s.pixels.shape[1] for s in sets]
        for key, s, cls, patches in zip(
            members, sets, encoding.cls.split(counts), encoding.patches.split(counts), strict=True
        ):
            lead = s.pixels.shape[:2]
            encoded[key] = Encoding(cls.unflatten(0, lead), patches.unflatten(0, lead), encoding.grid)
    return encoded


def _run(request: Encode, sets: list[Views], towers: Mapping[str, Encoder | None]) -> Encoding:
    """Encode view sets of one size as ``request`` says."""
    tower = towers[request.tower]
    if tower is None:
        missing = "gives no teacher_momentum()" if request.tower == "teacher" else "does not say needs_initial"
        raise InputError(f"an objective asks for the tower {request.tower!r} but {missing}.")
    pixels = torch.cat([s.pixels.flatten(0, 1) for s in sets])  # [sum(B*V), 3, H, H]
    options: dict[str, Tensor] = {}
    if request.positions == "crop":
        options["position_boxes"] = torch.cat([s.places.flatten(0, 1) for s in sets])
        options["position_flips"] = torch.cat([s.flips.flatten(0, 1) for s in sets if s.flips is not None])
    with torch.set_grad_enabled(torch.is_grad_enabled() and request.receives_gradient):
        return tower(pixels, **options, **mask_options(request.mask))


def mask_options(mask: TokenMask | None) -> dict[str, Tensor]:
    """A mask as the encoder takes it: [B, V, ...] to [B * V, ...]."""
    if mask is None:
        return {}
    fields = ("visible", "dropped", "masked", "context")
    given = {name: getattr(mask, name) for name in fields if getattr(mask, name) is not None}
    options = {name: value.flatten(0, 1) for name, value in given.items()}
    if mask.dropped is None or mask.position_token is None:
        return options
    return {**options, "position_token": mask.position_token}


def monitored(encoded: Mapping[Identity, Encoding]) -> Tensor:
    """The embeddings that a run watches, [B, D]: the first view of the first view set that the student encoded."""
    return next(e for key, e in encoded.items() if key[0] == "student").cls[:, 0].detach()

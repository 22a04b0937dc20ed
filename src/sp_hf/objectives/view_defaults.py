"""Defaults for what an entry leaves open about its views: the objective's, in a size that suits the encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..views.photometric import Photometric
from ..views.spec import ViewSpec, as_view_spec

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder
    from .base import ObjectiveConfig

PAPERS_SIDE = 224
"""Pixels a side of the images that the objectives' papers train on, which their defaults are made for."""


def byol_views() -> ViewSpec:
    """BYOL's two views (arXiv:2006.07733, appendix B), which MoCo v3, VICReg and PixPro take over."""
    return ViewSpec(count=2, size=PAPERS_SIDE, area=(0.08, 1.0), flip="own", photometric=Photometric.moco_v3())


def default_views(config_class: type[ObjectiveConfig]) -> dict[str, ViewSpec]:
    """The view sets that an objective has if none are given, by option."""
    factories = {field.name: field.default_factory for field in dataclasses.fields(config_class)}
    defaults = {name: make() for name, make in factories.items() if make is not dataclasses.MISSING}
    return {name: default for name, default in defaults.items() if isinstance(default, ViewSpec)}


def complete_views(config_class: type[ObjectiveConfig], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options in which a view set that is described in part has its default's rest; see :func:`as_view_spec`."""
    described = {n: d for n, d in default_views(config_class).items() if isinstance(options.get(n), Mapping)}
    return {**options, **{name: as_view_spec(options[name], default) for name, default in described.items()}}


def view_size(default: int, encoder: Encoder) -> int:
    """Pixels a side of views that are ``default`` in the paper, for an encoder of images of another size.

    In proportion for smaller images (for larger ones, which cost more than twice, a size must be given), and the
    nearest that the encoder takes: a multiple of the patch size, or of a model with a size of its own that one.
    """
    side = min(encoder.image_side, PAPERS_SIDE)
    return encoder.nearest_size(default * side / PAPERS_SIDE)

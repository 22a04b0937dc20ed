"""Objectives by name, and how one is built from its entry in a configuration.

An entry is what a recipe's YAML or a model's ``config.json`` holds: ``{"name": "dino", "weight": 1.0, **options}``.
Heads draw their initial weights from PyTorch's global generator in the order in which objectives are built, so an
objective added at the end of the list leaves the initial weights of those before it as they were.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..views.spec import ViewSpec
from .base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Progress, Requests, TokenMask
from .validation import check_positive
from .view_defaults import complete_views, default_views, view_size
from .what.dino import DINO
from .what.ibot import IBOT
from .what.mae import MAE
from .what.moco_v3 import MoCoV3
from .what.supervised import Supervised
from .where.drop_pos import DropPos
from .where.lorot import LoRot
from .where.pirl import PIRL
from .where.spatial_context import SpatialContext
from .where.spatial_prediction import SpatialPrediction

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder

OBJECTIVES: dict[str, type[Objective]] = {
    "dino": DINO,
    "ibot": IBOT,
    "moco_v3": MoCoV3,
    "mae": MAE,
    "supervised": Supervised,
    "spatial_prediction": SpatialPrediction,
    "spatial_context": SpatialContext,
    "drop_pos": DropPos,
    "lorot": LoRot,
    "pirl": PIRL,
}


def parse_entry(entry: Mapping[str, Any]) -> tuple[type[Objective], ObjectiveConfig]:
    """The class and the options that an entry names.

    Raises:
        ValueError: no name, an unknown name or option, or an option out of its range.
    """
    kind, options = _kind_of(entry), dict(entry)
    name = options.pop("name")
    known = [field.name for field in dataclasses.fields(kind.config_class)]
    for option in options:
        if option not in known:
            raise InputError(
                f"objective {name!r} has no option {option!r}{_hint(option, known)}; its options: {', '.join(known)}."
            )
    try:
        config = kind.config_class(**complete_views(kind.config_class, options))
        check_positive("weight", config.weight)
    except ValueError as error:
        raise InputError(f"objective {name!r}: {error}") from error
    return kind, config


def _kind_of(entry: Mapping[str, Any]) -> type[Objective]:
    if "name" not in entry:
        raise InputError(f"objective {dict(entry)} has no name; add one of: {', '.join(OBJECTIVES)}.")
    name = entry["name"]
    if name not in OBJECTIVES:
        raise InputError(f"unknown objective {name!r}{_hint(name, OBJECTIVES)}; known: {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]


def build_objective(entry: Mapping[str, Any], encoder: Encoder) -> Objective:
    """Build the objective that an entry describes.

    Args:
        entry: ``{"name": ..., "weight": ..., **options}``.
        encoder: its sizes are read; it is not kept. Views whose size an entry leaves open follow them.

    Raises:
        ValueError: as :func:`parse_entry`, or a view size that the encoder's patches do not divide.
    """
    kind, config = parse_entry(with_sizes(entry, encoder))
    return kind(config, encoder)


def with_sizes(entry: Mapping[str, Any], encoder: Encoder) -> dict[str, Any]:
    """An entry whose view sets all have a size: one that it leaves open is made to fit the encoder.

    Raises:
        InputError: no name, or an unknown one.
    """
    sized = dict(entry)
    for name, default in default_views(_kind_of(entry).config_class).items():
        given = entry.get(name, {})
        if isinstance(given, Mapping) and given.get("size") is None:
            sized[name] = {**given, "size": view_size(default.size, encoder)}
    return sized


def wants_token_control(entry: Mapping[str, Any]) -> bool:
    """Whether an entry needs an ``SPViTModel``: for its own sake, or for the positions of its views."""
    kind, config = parse_entry(entry)
    return kind.needs_token_control or any(spec.positions == "crop" for spec in _specs_of(config))


def box_columns(entry: Mapping[str, Any]) -> set[str]:
    """Columns of the dataset that an entry's views take boxes from."""
    kind, config = parse_entry(entry)
    return {spec.boxes for spec in _specs_of(config) if spec.boxes is not None} - set(kind.proposes)


def _specs_of(config: ObjectiveConfig) -> list[ViewSpec]:
    values = (getattr(config, field.name) for field in dataclasses.fields(config))
    return [value for value in values if isinstance(value, ViewSpec)]


def to_entry(name: str, config: ObjectiveConfig) -> dict[str, Any]:
    """The whole entry of an objective, defaults included, as JSON can hold it; :func:`parse_entry` takes it back."""
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {"name": name, **{option: _to_json(value) for option, value in options.items()}}


def _to_json(value: Any) -> Any:
    if isinstance(value, ViewSpec):
        return _to_json(value.to_dict())
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    return [_to_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def _hint(name: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


__all__ = [
    "OBJECTIVES",
    "Batch",
    "Encode",
    "Objective",
    "ObjectiveConfig",
    "ObjectiveOutput",
    "Progress",
    "Requests",
    "TokenMask",
    "box_columns",
    "build_objective",
    "parse_entry",
    "to_entry",
    "wants_token_control",
]

"""Objectives by name, and how one is built from its entry in a configuration.

An entry is what a recipe's YAML or a model's ``config.json`` holds: ``{"name": "dino", "weight": 1.0, **options}``. One
of another package's objective also says ``"package"``, so that whoever lacks it is told what to install; nothing is
imported for it.

Heads draw their initial weights from PyTorch's global generator in the order in which objectives are built, so an
objective added at the end of the list leaves the initial weights of those before it as they were.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from ..errors import InputError, PluginError
from ..registry import Kind, Registry
from ..views.spec import ViewSpec
from .base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Progress, Requests, TokenMask
from .validation import check_positive, check_types
from .view_defaults import complete_views, default_views, view_size
from .what.byol import BYOL
from .what.dino import DINO
from .what.dinov2 import DINOv2
from .what.gram_anchoring import GramAnchoring
from .what.ibot import IBOT
from .what.ijepa import IJEPA
from .what.lejepa import LeJEPA
from .what.mae import MAE
from .what.moco_v3 import MoCoV3
from .what.patch_alignment import PatchAlignment
from .what.simclr import SimCLR
from .what.supervised import Supervised
from .what.vicreg import VICReg
from .where.cim import CIM
from .where.content_position import ContentPosition
from .where.drop_pos import DropPos
from .where.jigclu import JigClu
from .where.loca import LOCA
from .where.lorot import LoRot
from .where.mp3 import MP3
from .where.part import PART
from .where.pirl import PIRL
from .where.pix_pro import PixPro
from .where.relative_position import RelativePosition
from .where.self_patch import SelfPatch
from .where.spatial_context import SpatialContext
from .where.spatial_prediction import SpatialPrediction

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder

_OWN: dict[str, type[Objective]] = {
    "dino": DINO,
    "ibot": IBOT,
    "dinov2": DINOv2,
    "moco_v3": MoCoV3,
    "simclr": SimCLR,
    "byol": BYOL,
    "vicreg": VICReg,
    "lejepa": LeJEPA,
    "mae": MAE,
    "ijepa": IJEPA,
    "supervised": Supervised,
    "gram_anchoring": GramAnchoring,
    "patch_alignment": PatchAlignment,
    "spatial_prediction": SpatialPrediction,
    "spatial_context": SpatialContext,
    "drop_pos": DropPos,
    "lorot": LoRot,
    "pirl": PIRL,
    "relative_position": RelativePosition,
    "jigclu": JigClu,
    "mp3": MP3,
    "part": PART,
    "loca": LOCA,
    "self_patch": SelfPatch,
    "content_position": ContentPosition,
    "pix_pro": PixPro,
    "cim": CIM,
}


def _check_objective(name: str, kind: type[Objective]) -> None:
    """Raise ``PluginError`` unless an objective may have this name, and this is one."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", str(name)) or hasattr(nn.ModuleDict(), name):
        raise PluginError(f"no objective can be called {name!r}: give a word of a-z, 0-9 and _, such as 'my_method'.")
    if not inspect.isclass(kind) or not issubclass(kind, Objective):
        raise PluginError(f"objective {name!r}: {kind!r} is no subclass of sp_hf.Objective.")
    called = f"objective {name!r} ({kind.__module__}.{kind.__qualname__})"
    if getattr(kind, "kind", None) not in ("what", "where"):
        raise PluginError(f'{called} must say kind = "what" or kind = "where".')
    options = kind.config_class
    is_one = inspect.isclass(options) and issubclass(options, ObjectiveConfig)
    if not is_one or "__dataclass_fields__" not in vars(options):
        raise PluginError(f"{called}: its config_class must be a dataclass that extends sp_hf.ObjectiveConfig.")
    if taken := {"name", _PACKAGE} & {field.name for field in dataclasses.fields(options)}:
        raise PluginError(f"{called} has an option {taken.pop()!r}, which every entry has; rename it.")


_PACKAGE = "package"  # in an entry: the distribution that the objective came with

OBJECTIVES: Registry[Objective] = Registry("objective", "sp_hf.objectives", _OWN, _check_objective)
"""All objectives by name: the package's own, those registered, those of installed packages."""


def register_objective(name: str) -> Callable[[Kind], Kind]:
    """A decorator that makes an objective known by a name, for this process.

    A package that is installed offers its own by an entry point of the group ``sp_hf.objectives`` instead (or besides),
    which nobody needs to import: CONTRIBUTING.md shows both.

    Args:
        name: a word of a-z, 0-9 and _, as ``--objectives`` and recipes have it.

    Raises:
        PluginError: the name is taken or cannot be one, or the class is no :class:`Objective`.

    Example:
        >>> import sp_hf
        >>> @sp_hf.register_objective("stillness")
        ... class Stillness(sp_hf.Objective):
        ...     kind = "what"
        >>> sp_hf.OBJECTIVES["stillness"] is Stillness
        True
    """
    return OBJECTIVES.register(name)


def parse_entry(entry: Mapping[str, Any]) -> tuple[type[Objective], ObjectiveConfig]:
    """The class and the options that an entry names.

    Raises:
        ValueError: no name, an unknown name or option, or an option out of its range.
        PluginError: the objective is a package's that is not installed, or that cannot be imported.
    """
    kind, options = _kind_of(entry), dict(entry)
    options.pop(_PACKAGE, None)
    name = options.pop("name")
    known = [field.name for field in dataclasses.fields(kind.config_class)]
    for option in options:
        if option not in known:
            raise InputError(
                f"objective {name!r} has no option {option!r}{_hint(option, known)}; its options: {', '.join(known)}."
            )
    try:
        config = kind.config_class(**complete_views(kind.config_class, options))
        check_types(config)
        check_positive("weight", config.weight)
    except ValueError as error:
        raise InputError(f"objective {name!r}: {error}") from error
    return kind, config


def _kind_of(entry: Mapping[str, Any]) -> type[Objective]:
    if "name" not in entry:
        raise InputError(f"objective {dict(entry)} has no name; add one of: {', '.join(OBJECTIVES)}.")
    name = entry["name"]
    if name not in OBJECTIVES:
        package = entry.get(_PACKAGE)
        hint = _hint(name, OBJECTIVES) if package is None else ""
        raise PluginError(f"unknown objective {name!r}{hint}; {OBJECTIVES.missing(name, package)}")
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
        InputError, PluginError: no name, or an unknown one.
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


def wants_checkpoint(entry: Mapping[str, Any]) -> bool:
    """Whether an entry compares with the weights that a run starts from, so that these must be a checkpoint's."""
    return _kind_of(entry).needs_initial


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
    package = OBJECTIVES.package_of(name)
    origin = {} if package is None else {_PACKAGE: package}
    return {"name": name, **origin, **{option: _to_json(value) for option, value in options.items()}}


def packages_of(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The packages other than sp-hf that entries say they are of."""
    return sorted({entry[_PACKAGE] for entry in entries if _PACKAGE in entry})


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
    "packages_of",
    "parse_entry",
    "register_objective",
    "to_entry",
    "wants_checkpoint",
    "wants_token_control",
]

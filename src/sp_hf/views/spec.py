"""The description of a set of views: how many, how large, cut from where, and how disturbed.

Letters: V views of one image, N output side in pixels, S canvas side in pixels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from ..errors import InputError
from .photometric import Photometric

Flip = Literal["own", "shared", "parent", "none"]
Positions = Literal["view", "crop"]
_NONE_MEANS_NONE = ("aspect", "effective_resolution", "grid", "inside", "boxes", "position_window")
_CLEAN_ZOOM = 0.65  # canvas pixels to an output pixel


@dataclasses.dataclass(frozen=True)
class Grid:
    """Boxes side by side: a window, drawn as ``area`` and ``aspect`` say, is cut into cells; each cell holds one box.

    Args:
        rows, columns: of cells, at least 1.
        gap: share of a cell's side that its box leaves free; below 0 boxes overlap, moved inside the window at its
            borders.
        jitter: of the room that the gap leaves, the share within which a box lies uniformly at random: 1 is anywhere in
            its cell, 0 always in the cell's middle.

    Raises:
        ValueError: a value out of its range.
    """

    rows: int
    columns: int
    gap: float = 0.0
    jitter: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            _check_count(f"grid {name}", getattr(self, name))
        _check_number("grid gap", self.gap, -1, 1)
        _check_number("grid jitter", self.jitter, 0, 1)
        if not -1 < self.gap < 1:
            raise InputError(f"grid gap is {self.gap!r}; it must be above -1 and below 1")

    @property
    def cells(self) -> int:
        return self.rows * self.columns


@dataclasses.dataclass(frozen=True)
class ViewSpec:
    """A set of views of each image.

    Args:
        count: V, how many.
        size: N, side of the square output in pixels.
        area: (low, high), area of the box as a fraction of the image, uniform.
        aspect: (low, high), width / height of the box in pixels of the true image, log-uniform. ``None``: the
            image's own, so that ``area=(1, 1)`` is the whole image.
        flip: horizontal flip with probability a half: ``"own"`` coin for each view, ``"shared"`` coin for the
            views of an image, ``"parent"``: as the view that it lies inside, or ``"none"``.
        photometric: jitter of colours, blur, solarise.
        effective_resolution: (low, high), fractions of ``size``: the defence against the blur shortcut, see below.
            Each view is low-passed to a resolution drawn log-uniformly from the range, whatever its box. ``None``:
            no defence.
        margin: width of the strip along every border of the image, as a fraction of its width or height, that no box
            reaches into: vignettes, frames and padding tell position. ``area`` stays a fraction of the whole image.
        grid: :class:`Grid` or its dict: boxes side by side in one window instead of each on its own. ``count`` is then
            a multiple of its cells; view ``v`` is cell ``v % cells``, row by row, of window ``v // cells``.
        inside: name of another view set (``"reference"`` of the same objective, ``"dino/global"`` of another) whose
            boxes this one's lie inside: ``area`` and ``aspect`` are then of those. Windows are shared out evenly: the
            first ones lie in the first view.
        boxes: name of a source of given boxes: a column of the dataset, or what an objective proposes
            (:meth:`~sp_hf.objectives.base.Objective.propose_boxes`). Each window is one of the image's, chosen at
            random; drawn as ``area`` says where the image has none.
        box_context: given boxes are enlarged by this share of their sides, as far as the image goes.
        box_share: of the windows, those that are given boxes, by a coin each; the others are drawn as ``area`` says.
        rotation: windows are turned about their centres by a uniform angle of at most so many degrees, and shrunk where
            they would reach beyond the image. Not with a grid, blur, ``effective_resolution`` or ``positions: crop``.
        positions: what an encoder's positions are for these views: ``"view"``, laid over each view as usual, or
            ``"crop"``, those of the image at the view's box (``SPViTModel`` only; gives the box away).
        position_window: (a, b), whole numbers: the image lies in the position field in a window of side
            Beta(a, b) at a uniform place, one for each image, so that relations between its views stay
            (Content-position: (2, 5)). ``None``: it fills the field.

    Raises:
        ValueError: a value out of its range.

    **The blur shortcut.** A small box enlarged from a small canvas is blurrier than a large one, so an objective that
    predicts scale can read it from sharpness. On noise that looks the same at any scale (1/f), ridge regression on 16
    statistics of sharpness predicts the log ratio of the sides of two 48-px views, area 0.05 to 0.4, with R2::

        canvas side                    64     112     176     256
        no defence                   0.98    0.92    0.79    0.48
        (0.3, 1.0)                   0.86    0.36    0.00    0.00
        (0.2, 0.5)                   0.75    0.06    0.00    0.00
        dino_local                   0.75    0.29    0.00    0.00     of single boxes: 0.80, 0.43, 0.16, 0.02
        dino_local and (0.3, 1.0)    0.67    0.07    0.00    0.00     of single boxes: 0.75, 0.20, 0.00, 0.00

    On photographs of 112 px (Caltech-101), where content tells some of it: 0.77, 0.58, 0.65, 0.64 with no defence;
    0.54, 0.21, 0.05, 0.06 with (0.3, 1.0). (``python benchmarks/blur_shortcut.py --images FOLDER``.) The range must be
    drawn from, not a point: where its end is out of a small box's reach, randomness covers for it. And the canvas must
    be large enough for the smallest box: :attr:`clean_canvas`, even if the photographs are smaller than that.

    Example:
        >>> import sp_hf
        >>> spec = sp_hf.ViewSpec(count=4, size=32, area=(0.05, 0.4), flip="shared", effective_resolution=(0.3, 0.7))
        >>> spec.count, spec.flip
        (4, 'shared')
    """

    count: int
    size: int
    area: tuple[float, float]
    aspect: tuple[float, float] | None = (3 / 4, 4 / 3)
    flip: Flip = "own"
    photometric: Photometric = dataclasses.field(default_factory=Photometric)
    effective_resolution: tuple[float, float] | None = None
    margin: float = 0.0
    grid: Grid | None = None
    inside: str | None = None
    boxes: str | None = None
    box_context: float = 0.2
    box_share: float = 1.0
    rotation: float = 0.0
    positions: Positions = "view"
    position_window: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("area", "aspect", "effective_resolution", "position_window"):  # JSON has lists
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "photometric", _as_photometric(self.photometric))
        object.__setattr__(self, "grid", _as_grid(self.grid))
        for name in ("count", "size"):
            _check_count(name, getattr(self, name))
        _check_range("area", self.area, 1.0)
        if self.aspect is not None:
            _check_range("aspect", self.aspect, math.inf)
        if self.effective_resolution is not None:
            _check_range("effective_resolution", self.effective_resolution, 1.0)
        _check_margin(self.margin, self.area[1])
        if self.flip not in get_args(Flip):
            raise InputError(f"flip is {self.flip!r}; it must be one of {', '.join(get_args(Flip))}")
        self.photometric.check_count(self.count)
        self._check_layout()

    def _check_layout(self) -> None:
        if self.grid is not None and self.count % self.grid.cells:
            raise InputError(
                f"count is {self.count}; with a grid of {self.grid.rows} x {self.grid.columns} it must be a multiple of"
                f" {self.grid.cells}"
            )
        if self.inside is not None and self.boxes is not None:
            raise InputError("inside and boxes are both given; boxes are places of the whole image: leave one out")
        if self.flip == "parent" and self.inside is None:
            raise InputError("flip is 'parent', but the views lie inside no others; set inside, or another flip")
        _check_number("box_context", self.box_context, 0, math.inf)
        _check_number("box_share", self.box_share, 0, 1)
        _check_number("rotation", self.rotation, 0, 180)
        if self.rotation and (self.grid is not None or self.photometric.blurs or self.effective_resolution is not None):
            raise InputError("rotation goes with neither grid, blur nor effective_resolution; leave one out")
        if self.rotation and self.positions == "crop":
            raise InputError("rotation does not go with positions: crop, which are of upright boxes; drop either")
        if self.positions not in get_args(Positions):
            raise InputError(f"positions is {self.positions!r}; it must be one of {', '.join(get_args(Positions))}")
        if self.position_window is not None:
            if not isinstance(self.position_window, tuple) or len(self.position_window) != 2:
                raise InputError(f"position_window is {self.position_window!r}; it must be (a, b), as of Beta(a, b)")
            for end in self.position_window:
                _check_count("position_window", end)
            if self.positions != "crop":
                raise InputError("position_window is for positions: crop, but positions is 'view'; change either")

    @property
    def windows(self) -> int:
        """How many boxes are drawn; each is a view, or the cells of a grid are."""
        return self.count if self.grid is None else self.count // self.grid.cells

    @property
    def canvas_size(self) -> int:
        """Side of a canvas in pixels on which twice the sharpness of these views is at hand; of a grid, its own."""
        if self.grid is None:
            return 2 * self.size
        side = max(self.grid.rows, self.grid.columns) * self.size / (1 - self.grid.gap)
        return max(2 * self.size, math.ceil(side))

    @property
    def clean_canvas(self) -> int:
        """Side of the smallest canvas on which an ``effective_resolution`` of (0.3, 1.0) hides the size of every box.

        It gives the smallest box of a square image 0.65 canvas pixels to an output pixel, which left an R2 of
        0.02 in the measurement above (at 32, 48 and 96 px); 0.5 do with (0.2, 0.5), or beside ``dino_local``.
        """
        narrowest = 1.0 if self.aspect is None else min(self.aspect[0], 1 / self.aspect[1], 1.0)
        share = 1.0 if self.grid is None else max(self.grid.rows, self.grid.columns) / (1 - self.grid.gap)
        return math.ceil(_CLEAN_ZOOM * self.size * share / math.sqrt(self.area[0] * narrowest))

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it; :func:`as_view_spec` takes it back."""
        return dataclasses.asdict(self)


def as_view_spec(x: ViewSpec | Mapping[str, Any] | str, default: ViewSpec | None = None) -> ViewSpec | str:
    """A spec from a spec, from a dict as YAML or JSON have it, or a reference to another objective's ("dino/local").

    Args:
        x: any of these.
        default: what a dict leaves out is as it is there, also within ``photometric`` and ``grid``; ``None`` takes a
            part of it away. Without a default, what is left out is as :class:`ViewSpec` says.

    Raises:
        InputError: an unknown or missing field, or a value out of its range.
    """
    if isinstance(x, ViewSpec):
        return x
    if isinstance(x, str):
        objective, _, view = x.partition("/")
        if not objective or not view or "/" in view:
            raise InputError(f"view reference {x!r} must read 'objective/view', for instance 'dino/local'")
        return x
    if not isinstance(x, Mapping):
        raise InputError(f"a view spec must be a ViewSpec, a dict or a string, not {type(x).__name__}")
    x = _completed(x, default) if default is not None else x
    _check_fields(ViewSpec, x, "view spec")
    return ViewSpec(**x)


def _completed(given: Mapping[str, Any], default: ViewSpec) -> dict[str, Any]:
    spec = default.to_dict()
    spec["photometric"] = default.photometric.for_count(_count_of(given, default))
    for name, value in given.items():
        if value is None and name not in _NONE_MEANS_NONE:
            spec.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(spec.get(name), dict):
            spec[name] = {k: v for k, v in {**spec[name], **value}.items() if v is not None}
        else:
            spec[name] = value
    return spec


def _count_of(given: Mapping[str, Any], default: ViewSpec) -> int:
    count = given.get("count", default.count)
    return count if isinstance(count, int) and count > 0 else default.count  # what it is instead is refused later


def _as_photometric(x: Photometric | Mapping[str, Any] | str) -> Photometric:
    if isinstance(x, Photometric):
        return x
    if isinstance(x, str):
        return Photometric.named(x)
    if not isinstance(x, Mapping):
        raise InputError(f"photometric is {x!r}; it must be a Photometric, a dict of its fields or a preset's name")
    _check_fields(Photometric, x, "photometric")
    return Photometric(**x)


def _as_grid(x: Grid | Mapping[str, Any] | None) -> Grid | None:
    if x is None or isinstance(x, Grid):
        return x
    if not isinstance(x, Mapping):
        raise InputError(f"grid is {x!r}; it must be a Grid or a dict of its fields")
    _check_fields(Grid, x, "grid")
    return Grid(**x)


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} is {value!r}; it must be an integer of at least 1")


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        limits = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise InputError(f"{name} is {value!r}; it must be a number {limits}")


def _check_range(name: str, value: tuple[float, float], limit: float) -> None:
    numbers = isinstance(value, tuple) and len(value) == 2 and all(isinstance(end, int | float) for end in value)
    if not numbers or not 0 < value[0] <= value[1] <= limit or value[1] == math.inf:
        bound = "" if limit == math.inf else f" <= {limit:g}"
        raise InputError(f"{name} is {value!r}; it must be (low, high) with 0 < low <= high{bound}")


def _check_margin(margin: float, largest: float) -> None:
    if not isinstance(margin, int | float) or isinstance(margin, bool) or not 0 <= margin < 0.5:
        raise InputError(f"margin is {margin!r}; it must be a fraction of the image's side, 0 <= margin < 0.5")
    inside = (1 - 2 * margin) ** 2
    if largest > inside:
        raise InputError(
            f"area goes up to {largest:g}, but a margin of {margin:g} leaves {inside:.3g} of the image; lower either"
        )


def _check_fields(kind: type, given: Mapping[str, Any], what: str) -> None:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(given) - set(fields))
    if unknown:
        raise InputError(f"{what} has no field {', '.join(unknown)}; its fields are {', '.join(fields)}")
    missing = [
        name
        for name, field in fields.items()
        if field.default is field.default_factory is dataclasses.MISSING and name not in given
    ]
    if missing:
        raise InputError(f"{what} lacks {', '.join(missing)}")

"""Which crops of an image the relative-geometry probe is shown, and what is done against shortcuts.

A probe could read relations off traces that have nothing to do with what is in the picture: an enlarged crop is
blurred, lenses fringe colours towards the image's rim, JPEG leaves a grid of 8 px, vignettes and frames darken the
borders, and two crops of one photograph share its colours. Three countermeasures (each measured by
:mod:`~sp_hf.evaluation.where.shortcut_audit`): every crop is resampled to its own effective resolution and jittered in
colour, both independently of its box, and no crop reaches into a strip along the image's borders.

When a strip is cut off all round, and crops are drawn from what is left, the R2 of position that border statistics
give falls (no countermeasures, crops of 48 px; ``python benchmarks/border_margin.py``)::

    cut off                         0        2 %      5 %      8 %      12 %
    photographs (Caltech-101)       0.245    0.216    0.173    0.136    0.071
    PartScenes, hard, no frames     0.253    0.229    0.194    0.161    0.133

Both fall alike, as what fills their borders changes: frames tell little here. The margin of 2 % is a precaution against
thin ones; a wider margin takes the task itself away, as it leaves less room for crops to differ in position.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ....errors import InputError
from ....views.photometric import Photometric
from ....views.spec import ViewSpec

CANVAS = 3  # times the crops' size: at which the smallest crops are no blurrier than the protocol makes the others


@dataclasses.dataclass(frozen=True)
class RelativeGeometryProtocol:
    """What is drawn from each image. Two results can be compared only if these are equal.

    Args:
        crops: V, at least 2.
        area, aspect, photometric, effective_resolution, margin: of the crops, see :class:`~sp_hf.views.spec.ViewSpec`.

    Raises:
        ValueError: fewer than two crops.
    """

    crops: int = 4
    area: tuple[float, float] = (0.05, 0.3)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    photometric: Photometric = dataclasses.field(default_factory=Photometric.byol)
    effective_resolution: tuple[float, float] | None = (0.2, 0.4)
    margin: float = 0.02

    def __post_init__(self) -> None:
        if self.crops < 2:
            raise InputError(f"crops is {self.crops}; a pair needs at least 2 an image")

    def view_spec(self, size: int, largest: float = math.inf) -> ViewSpec:
        """The crops at an output size in px.

        Args:
            size: side in px.
            largest: side in px of crops whose detail the images' own pixels allow; larger ones are shown no sharper.
        """
        finest = self.effective_resolution
        if finest is not None and largest < size:
            finest = (finest[0] * largest / size, finest[1] * largest / size)
        return ViewSpec(
            count=self.crops,
            size=size,
            area=self.area,
            aspect=self.aspect,
            flip="none",
            photometric=self.photometric,
            effective_resolution=finest,
            margin=self.margin,
        )

    def without_countermeasures(self) -> RelativeGeometryProtocol:
        """Crops drawn with the same random numbers: sharp, in their own colours, up to the borders."""
        return dataclasses.replace(self, photometric=Photometric.none(), effective_resolution=None, margin=0.0)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

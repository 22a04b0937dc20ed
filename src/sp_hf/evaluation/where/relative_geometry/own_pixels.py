"""The resolution at which crops are shown, by how many pixels images have.

A crop that is enlarged beyond the image's own pixels is blurrier the smaller its box is, and that tells scale: of crops
of 224 px, blur alone told an R2 of scale of 0.72 to 0.74 on images of 32 to 96 px. What an image lacks cannot be
hidden, so all crops are shown as blurry as the smallest would be: those of N px with the detail of crops of M px,

    M = min(N, L / 2)        L = 5th percentile over images of sqrt(width x height)

The protocol's smallest box, 5 % of the image at an aspect ratio of 3 : 4, is 0.19 L wide, and its sharpest crop shows
0.4 M px of detail: 0.2 L. The model is still given N px.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ....errors import DataError
from .protocol import CANVAS, RelativeGeometryProtocol

if TYPE_CHECKING:
    from ....views.spec import ViewSpec
    from ...data import EvaluationData

SMALLEST_DETAIL = 8  # px, M; of crops with less nobody could tell anything


class Detail(NamedTuple):
    """How crops of a size are shown.

    Args:
        size: N in px.
        shown: M in px.
        own: L in px.
    """

    size: int
    shown: float
    own: float

    @property
    def canvas(self) -> int:
        """Side in px at which images are kept."""
        return int(np.ceil(CANVAS * self.shown))

    def spec(self, protocol: RelativeGeometryProtocol) -> ViewSpec:
        """The view set of the crops."""
        return protocol.view_spec(self.size, self.shown)

    def measured_at(self, protocol: RelativeGeometryProtocol) -> str:
        """At which resolution, in words."""
        text = f"crops of {self.size} px"
        finest = self.spec(protocol).effective_resolution
        if finest is not None:
            text += f", their detail lowered to {finest[0] * self.size:.1f} to {finest[1] * self.size:.1f} px"
        return text + (f", of images of {self.own:.0f} px" if np.isfinite(self.own) else "")

    @property
    def notes(self) -> list[str]:
        """What the report says of it."""
        if self.shown >= self.size:
            return []
        return [
            f"crops of {self.size} px are shown with the detail of crops of {self.shown:.0f} px, as images have"
            f" {self.own:.0f} px (one in twenty fewer)"
        ]


def detail_of(data: EvaluationData, size: int, images: int | None) -> Detail:
    """How crops of a size are shown of the run's images.

    Args:
        data: both sides count.
        size: N in px.
        images: of each side, at most, evenly spaced; ``None`` for all.

    Raises:
        ValueError: the images are too small for crops of this size.
    """
    own = min(data.own_side(sample, images) for sample in (data.train, data.validation))
    shown = min(size, own / 2)
    if shown < min(size, SMALLEST_DETAIL):
        raise DataError(
            f"crops of {size} px of images of {own:.0f} px would be all blur: use images of {2 * SMALLEST_DETAIL} px or"
            f" more, or crops of {int(own // 2)} px or fewer"
        )
    return Detail(size, shown, own)

r"""LoRot: one square of the picture is turned; tell by how much, and (explicit) which.

Letters: B images, V views of one image (1 by default), D hidden size, C classes.

    I (implicit)   a square of random side at a random place, turned by k quarter turns             class k, C = 4
    E (explicit)   quadrant q turned by k quarter turns                                     class 4 q + k, C = 16
    loss           = mean over B, V of cross-entropy(W z + a, class)               z of the view with its square turned

Citation: Moon, Kim, Heo 2022, "Tailoring self-supervision for supervised learning", arXiv:2207.10023, section 3
(LoRot-I and LoRot-E), section 4 (weight 0.1).

Deviations: a square a view, not one for the batch. The paper's other loss, labels, sees the turned picture too; here
the turned views are this objective's own, and objectives that it shares views with see them as they were.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...views.compose import rotate_squares
from ...views.keyed_random import uniform
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Requests
from ..precision import in_float32
from ..validation import check_choice

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

SMALLEST = 2  # side of a square, in pixels


def _default_views() -> ViewSpec:
    return ViewSpec(count=1, size=224, area=(0.08, 1.0), flip="own")


@dataclasses.dataclass
class LoRotConfig(ObjectiveConfig):
    """Options of :class:`LoRot`.

    Args:
        weight: of the loss in a run's sum; 0.1 is the paper's, beside labels.
        views: its views, or a reference to another objective's, such as ``"dino/global"``.
        variant: ``"I"`` (a random square, 4 classes) or ``"E"`` (a quadrant, 16 classes).
    """

    weight: float = 0.1
    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    variant: Literal["I", "E"] = "I"

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        check_choice("variant", self.variant, ("I", "E"))


class Squares(NamedTuple):
    """What is turned in each view; all int64 [B, V]."""

    tops: Tensor
    lefts: Tensor
    sides: Tensor
    turns: Tensor
    classes: Tensor


def draw_squares(u: Tensor, size: int, variant: str) -> Squares:
    """Squares in views of ``size`` pixels a side, from uniform numbers [B, V, 4]."""
    turns = (4 * u[..., 0]).long()
    if variant == "E":
        half, quadrants = size // 2, (4 * u[..., 1]).long()
        tops, lefts = (size - half) * (quadrants // 2), (size - half) * (quadrants % 2)
        return Squares(tops, lefts, torch.full_like(tops, half), turns, 4 * quadrants + turns)
    sides = SMALLEST + (u[..., 1] * (size // 2 - SMALLEST + 1)).long()
    tops, lefts = ((u[..., i] * (size - sides + 1)).long() for i in (2, 3))
    return Squares(tops, lefts, sides, turns, turns)


@in_float32
def rotation_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean cross-entropy: logits [B, V, C], classes int64 [B, V]."""
    return F.cross_entropy(logits.flatten(0, 1), classes.flatten())


class LoRot(Objective):
    """Localizable rotation: how a part of the picture is turned."""

    config_class = LoRotConfig
    kind = "where"
    title = "LoRot"
    citation = """@inproceedings{moon2022tailoring,
  title     = {Tailoring Self-Supervision for Supervised Learning},
  author    = {Moon, WonJun and Kim, Ji-Hwan and Heo, Jae-Pil},
  booktitle = {European Conference on Computer Vision},
  year      = {2022}
}"""

    def __init__(self, config: LoRotConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = nn.Linear(encoder.hidden_size, 4 if config.variant == "I" else 16)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"image": self.config.views}

    def requests(self, batch: Batch) -> Requests:
        image = batch.views["image"]
        count, size = image.pixels.shape[1], image.pixels.shape[-1]
        squares = draw_squares(uniform(batch.keys, "lorot/square", (count, 4)), size, self.config.variant)
        flat = (x.flatten() for x in (squares.tops, squares.lefts, squares.sides, squares.turns))
        pixels = rotate_squares(image.pixels.flatten(0, 1), *flat).view_as(image.pixels)
        return Requests({"turned": Encode("turned")}, {"turned": image._replace(pixels=pixels)}, squares.classes)

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        logits = self.head(encodings["turned"].cls)  # [B, V, C]
        accuracy = (logits.detach().argmax(dim=-1) == batch.state).float().mean()
        return ObjectiveOutput(rotation_loss(logits, batch.state), {"accuracy": accuracy})

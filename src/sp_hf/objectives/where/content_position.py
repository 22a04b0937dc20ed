r"""Content-position: iBOT whose positions follow the crop, and which hides either patches' content or their positions.

Letters: B images, G global views, N patch tokens of a global view, h x w their grid, D hidden size.

    positions   of every view those of the image's field at its crop, in a window of side Beta(2, 5) of the field
    masks       of an image with content masks: blocks of patches, whose content is the mask token
                of one with position masks: some whole rows and columns of patches, whose position is one learned token
    loss        = class_weight L_cls + patch_weight L_patch (iBOT's, at content- and at position-masked patches)
                + koleo_weight KoLeo of the global views' class tokens

Citation: Liu, Suganuma, Okatani 2025, "Self-supervised learning of intertwined content and positional features for
object detection" (ICML, PMLR 267; OpenReview nf4v09zw6O), known here by a summary and its reviews; what it takes from
iBOT: arXiv:2111.07832, from DINOv2: arXiv:2304.07193.

Choices made here: the coin is thrown once an image; whether a view is masked at all, and how much, is drawn as for
content (iBOT's ``mask_probability`` and ``mask_ratio``), also for rows and columns, which take equal shares of the
grid's sides, at random. Both kinds share one head and one term. A field larger than the table is the run's
(``--position_field 50``, the paper's). KoLeo has the paper's weight of 1 inside this loss.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...views.keyed_random import uniform
from ...views.photometric import Photometric
from ...views.spec import ViewSpec
from ..base import Batch, Encode, ObjectiveOutput, Requests, TokenMask
from ..koleo import koleo_loss
from ..masks import block_masks, cross_masks
from ..validation import check_at_least, check_fraction
from ..what.ibot import IBOT, IBOTConfig

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

WINDOW = (2, 5)


def _default_global() -> ViewSpec:
    return ViewSpec(
        count=2, size=224, area=(0.32, 1.0), flip="own", photometric=Photometric.dino_global(), positions="crop",
        position_window=WINDOW,
    )  # fmt: skip


def _default_local() -> ViewSpec:
    return ViewSpec(
        count=8, size=96, area=(0.05, 0.32), flip="own", photometric=Photometric.dino_local(), positions="crop",
        position_window=WINDOW,
    )  # fmt: skip


@dataclasses.dataclass
class ContentPositionConfig(IBOTConfig):
    """Options of :class:`ContentPosition`; those that are not here are iBOT's.

    Args:
        global_views, local_views: whose positions follow the crop.
        position_share: of the images, those with position masks; the others have content masks.
        koleo_weight: of KoLeo in this loss, 0 for none. It needs two images or more a process.
    """

    global_views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_global)
    local_views: ViewSpec | dict | str | None = dataclasses.field(default_factory=_default_local)
    position_share: float = 0.5
    koleo_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("global_views", "local_views"):
            spec = getattr(self, option)
            if isinstance(spec, ViewSpec) and spec.positions != "crop":
                raise InputError(f"{option} has positions: {spec.positions}; content_position is for positions: crop")
        check_fraction("position_share", self.position_share)
        check_at_least("koleo_weight", self.koleo_weight, 0)


class ContentPosition(IBOT):
    """Masked content or masked positions, in positions that follow the crop."""

    config: ContentPositionConfig
    config_class = ContentPositionConfig
    kind = "where"
    title = "Content-position"
    needs_token_control = True
    own_metric = ("patch_accuracy", "masked patches whose prototype is found")
    citation = """@inproceedings{liu2025self,
  title     = {Self-Supervised Learning of Intertwined Content and Positional Features for Object Detection},
  author    = {Liu, Kang-Jun and Suganuma, Masanori and Okatani, Takayuki},
  booktitle = {Proceedings of the 42nd International Conference on Machine Learning},
  pages     = {39552--39567},
  year      = {2025}
}"""

    def __init__(self, config: ContentPositionConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.position_token = nn.Parameter(torch.empty(encoder.hidden_size))
        nn.init.trunc_normal_(self.position_token, std=0.02)

    def requests(self, batch: Batch) -> Requests:
        wanted = super().requests(batch)
        masked, dropped = self.content_and_position_masks(batch)
        mask = TokenMask(masked=masked, dropped=dropped, position_token=self.position_token)
        encodes = {**wanted.encodes, "student_global": Encode("global", mask=mask)}
        return Requests(encodes, state=masked | dropped)

    def content_and_position_masks(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Patches without content, and patches without position: bool [B, G, N] each; an image has one kind."""
        ratios, grid = self.draw_ratios(batch)
        has_positions = uniform(batch.keys, "content_position/kind", (1, 1)) < self.config.position_share  # [B, 1, 1]
        content = block_masks(batch.keys, "content_position/blocks", grid, ratios, self.config.mask_aspect)
        crosses = cross_masks(batch.keys, "content_position/crosses", grid, ratios)
        return content & ~has_positions, crosses & has_positions

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        output = super().forward(batch, encodings)
        if not self.config.koleo_weight:
            return output
        koleo = torch.stack([koleo_loss(view) for view in encodings["student_global"].cls.unbind(1)])  # [G]
        logs = {**output.logs, "koleo": koleo.detach().mean()}
        return ObjectiveOutput(output.loss + self.config.koleo_weight * koleo.sum(), logs)

r"""DINOv2's recipe: DINO on views, iBOT on patches, and KoLeo, summed.

Letters: B images of this process, M of all processes, G global views, K prototypes, N patch tokens.

    loss = L_cls + L_patch + koleo_weight sum over G of KoLeo(student's class tokens of view g)

L_cls and L_patch are iBOT's (:mod:`.ibot`), of masked global views. Of all M G global views, a share is masked (a
half), chosen at random; their ratios are spread evenly over the range, so that the number of masked patches of a
forward hardly varies. KoLeo is on the encoder's class tokens, before the head (:mod:`..koleo`).

Citation: Oquab et al. 2023, "DINOv2: learning robust visual features without supervision", arXiv:2304.07193, section 4
(losses, heads, Sinkhorn-Knopp, KoLeo), appendix B.1; masks and sizes as in its code.

Choices: the defaults are those of its recipe for ImageNet-1k: one head, running centres, 65536 prototypes. Its larger
runs have ``separate_heads: true``, ``centring: sinkhorn`` and 131072. Sinkhorn-Knopp of patches is over the masked ones
of all processes. Layer-wise learning rates, stochastic depth and clipping are options of the run.

Deviations: those of iBOT; Sinkhorn-Knopp, masks and KoLeo see one forward's images.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn

from ...views.keyed_random import uniform
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, ObjectiveOutput
from ..centring import sinkhorn
from ..gather import concat_all_gather
from ..heads import DINOHead
from ..koleo import koleo_loss
from ..masks import block_masks
from ..validation import check_at_least, check_choice
from .dino import Centring
from .ibot import IBOT, IBOTConfig

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

_LEAST_BLOCK = 4.0  # patches


def _default_global() -> ViewSpec:
    return ViewSpec(count=2, size=224, area=(0.32, 1.0), flip="own", photometric=Photometric.dino_global())


def _default_local() -> ViewSpec:
    return ViewSpec(count=8, size=96, area=(0.05, 0.32), flip="own", photometric=Photometric.dino_local())


@dataclasses.dataclass
class DINOv2Config(IBOTConfig):
    """Options of :class:`DINOv2`: those of iBOT, where ``mask_probability`` is the share of masked views, and

    Args:
        centring: ``"mean"``, running means of the teacher's outputs, or ``"sinkhorn"``, Sinkhorn-Knopp of each forward.
        koleo_weight: of KoLeo, 0 for none. It needs two images or more a process.
        separate_heads: patch tokens have a head of their own.
    """

    global_views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_global)
    local_views: ViewSpec | dict | str | None = dataclasses.field(default_factory=_default_local)
    prototypes: int = 65536
    norm_last_layer: bool = True
    momentum: tuple[float, float] = (0.992, 1.0)
    centring: Centring = "mean"
    koleo_weight: float = 0.1
    separate_heads: bool = False

    def __post_init__(self) -> None:
        self.global_views = as_view_spec(self.global_views, _default_global())
        self.local_views = None if self.local_views is None else as_view_spec(self.local_views, _default_local())
        super().__post_init__()
        check_choice("centring", self.centring, get_args(Centring))
        check_at_least("koleo_weight", self.koleo_weight, 0)


def spread_ratios(keys: Tensor, views: int, share: float, low: float, high: float) -> Tensor:
    """Mask ratios of this process's views, [B, G]: of all views a ``share`` is masked, evenly from low to high."""
    everyone, start = concat_all_gather(keys)  # [M]
    u = uniform(everyone, "dinov2/ratios", (views, 2))  # [M, G, 2]
    place = u[..., 0].flatten().argsort(stable=True).argsort().view(u.shape[:2])  # each view's, in a random order
    masked = round(place.numel() * share)
    ratios = low + (high - low) * (place + u[..., 1]) / max(masked, 1)
    return torch.where(place < masked, ratios, 0.0)[start : start + len(keys)]


class DINOv2(IBOT):
    """Self-distillation of views and masked patches, spread out by KoLeo."""

    config: DINOv2Config
    config_class = DINOv2Config
    title = "DINOv2"
    citation = """@article{oquab2023dinov2,
  title   = {{DINOv2}: Learning Robust Visual Features without Supervision},
  author  = {Oquab, Maxime and Darcet, Timoth{\\'e}e and Moutakanni, Th{\\'e}o and Vo, Huy and Szafraniec, Marc
             and Khalidov, Vasil and others},
  journal = {arXiv preprint arXiv:2304.07193},
  year    = {2023}
}"""

    def __init__(self, config: DINOv2Config, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if config.separate_heads:
            sizes = (config.prototypes, config.head_width, config.head_bottleneck, config.norm_last_layer)
            self.patch_head = DINOHead(encoder.hidden_size, *sizes)
            self.teacher_patch_head = copy.deepcopy(self.patch_head).requires_grad_(False)

    def patch_heads(self) -> tuple[nn.Module, nn.Module]:
        return (self.patch_head, self.teacher_patch_head) if self.config.separate_heads else super().patch_heads()

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        return super().ema_heads() + ([self.patch_heads()] if self.config.separate_heads else [])

    def draw_masks(self, batch: Batch) -> Tensor:
        pixels = batch.views["global"].pixels
        share, ratio = self.config.mask_probability, self.config.mask_ratio
        ratios = spread_ratios(batch.keys, pixels.shape[1], share, *ratio)
        rows, columns = (side // self.patch_size for side in pixels.shape[-2:])
        return block_masks(
            batch.keys, "dinov2/blocks", (rows, columns), ratios, self.config.mask_aspect, least_area=_LEAST_BLOCK
        )

    def class_targets(self, outputs: Tensor) -> Tensor:
        if self.config.centring == "mean":
            return super().class_targets(outputs)
        return sinkhorn(outputs.flatten(0, 1), self.class_temperature).view_as(outputs)

    def patch_targets(self, outputs: Tensor, indices: Tensor) -> Tensor:
        if self.config.centring == "mean":
            return super().patch_targets(outputs, indices)
        return sinkhorn(outputs[indices], self.patch_temperature)

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        loss, logs = super().forward(batch, encodings)
        if not self.config.koleo_weight:
            return ObjectiveOutput(loss, logs)
        koleo = torch.stack([koleo_loss(view) for view in encodings["student_global"].cls.unbind(1)])  # [G]
        return ObjectiveOutput(loss + self.config.koleo_weight * koleo.sum(), {**logs, "koleo": koleo.detach().mean()})

r"""CIM: find turned exemplars of an image in a wider view of it.

Letters: B images, X exemplars of one image, N patch tokens of the context view, M of an exemplar, D hidden size, C
width of the correlation, H pixels a side of the context view.

    k          Linear(teacher's tokens of the context view) + sine-cosine positions           [N, C]
    e          Linear(student's tokens of an exemplar)                                        [M, C]
    o          W norm(block(k; e)) + b, bilinear from the grid of patches to H x H pixels     [2, H, H]
    loss     = mean over B, X and pixels of cross-entropy(o, whether the exemplar's turned box covers the pixel)

block: cross-attention of the context's tokens to the exemplar's.

Citation: Li, Xie, Loy 2023, "Correlational image modeling for self-supervised visual pre-training", arXiv:2303.12670,
section 3 (cropping, bootstrap encoder, correlation), and its code (sizes, rotation by up to 45 degrees).

Choices made here: the context is not mirrored, and neither are exemplars. A turned exemplar lies within the image, and
may reach over the border of the context, where it has no pixels to be found at.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.sincos_positions import sincos_positions
from ...errors import InputError
from ...views.photometric import Photometric
from ...views.rotated import covered
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..precision import in_float32
from ..transformer import CrossAttention
from ..validation import check_decoder, check_momentum

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


def _default_context() -> ViewSpec:
    return ViewSpec(count=1, size=160, area=(0.5, 1.0), flip="none", photometric=Photometric.none())


def _default_exemplars() -> ViewSpec:
    return ViewSpec(
        count=6, size=64, area=(0.05, 0.48), aspect=(1 / 3, 3.0), flip="none", inside="context", rotation=45.0,
        photometric=Photometric.byol(),
    )  # fmt: skip


@dataclasses.dataclass
class CIMConfig(ObjectiveConfig):
    """Options of :class:`CIM`.

    Args:
        context: one view of each image, neither turned nor mirrored.
        exemplars: X views inside it, not mirrored.
        width: C.
        attention_heads: of the block; must divide C.
        freeze_patch_projection: keep the encoder's patch projection as it is.
        momentum: (start, end) of the EMA teacher's cosine schedule.
    """

    context: ViewSpec | dict = dataclasses.field(default_factory=_default_context)
    exemplars: ViewSpec | dict = dataclasses.field(default_factory=_default_exemplars)
    width: int = 512
    attention_heads: int = 16
    freeze_patch_projection: bool = True
    momentum: tuple[float, float] = (0.99, 1.0)

    def __post_init__(self) -> None:
        context = as_view_spec(self.context, _default_context())
        if isinstance(context, str) or context.count != 1 or context.rotation or context.flip != "none":
            raise InputError(f"context is {self.context!r}; give the spec of one view, not turned, with flip: none")
        exemplars = as_view_spec(self.exemplars, _default_exemplars())
        if isinstance(exemplars, str) or exemplars.inside != "context" or exemplars.flip != "none":
            raise InputError(f"exemplars is {self.exemplars!r}; give a spec with inside: context and flip: none")
        self.context, self.exemplars = context, exemplars
        check_decoder(self.width, 1, self.attention_heads)
        self.momentum = check_momentum(self.momentum)


@in_float32
def enlarged(maps: Tensor, size: int) -> Tensor:
    """Bilinear: [M, 2, h, w] to [M, 2, H, H], for H = ``size``."""
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)


@in_float32
def correlation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean cross-entropy of pixels: logits [M, 2, H, H], masks bool [M, H, H]."""
    return F.cross_entropy(logits, masks.long())


@torch.no_grad()
def mask_recall(scores: Tensor, masks: Tensor) -> Tensor:
    """Share of masks found by as many pixels of the highest scores.

    (An IoU of what is likelier than not is 0 until it is: masks are small.)

    Args:
        scores: [M, H, H], or [1, H, H], the same of all. masks: bool [M, H, H]; empty ones do not count.
    """
    scores, masks = scores.flatten(1), masks.flatten(1)
    sizes = masks.sum(dim=1, keepdim=True)  # [M, 1]
    ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    recall = (masks & (ranks < sizes)).sum(dim=1) / sizes[:, 0].clamp(min=1)
    return recall.sum() / (sizes > 0).sum().clamp(min=1)


class CIM(Objective):
    """Correlation maps of exemplars with their context."""

    config_class = CIMConfig
    kind = "where"
    title = "CIM"
    own_metric = ("recall", "share of exemplars found in their context")
    citation = """@inproceedings{li2023correlational,
  title     = {Correlational Image Modeling for Self-Supervised Visual Pre-Training},
  author    = {Li, Wei and Xie, Jiahao and Loy, Chen Change},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2023}
}"""

    def __init__(self, config: CIMConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.context_embed = nn.Linear(encoder.hidden_size, config.width)
        self.exemplar_embed = nn.Linear(encoder.hidden_size, config.width)
        self.block = CrossAttention(config.width, config.attention_heads)
        self.classifier = nn.Sequential(nn.LayerNorm(config.width, eps=1e-6), nn.Linear(config.width, 2))

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"context": self.config.context, "exemplars": self.config.exemplars}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"context": Encode("context", tower="teacher"), "exemplars": Encode("exemplars")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        size = batch.views["context"].pixels.shape[-1]
        context, exemplars = encodings["context"], encodings["exemplars"].patches  # [B, X, M, D]
        logits = self.correlate(context.patches[:, 0].detach(), context.grid, exemplars)  # [B X, 2, h, w]
        logits = enlarged(logits, size)
        frames = batch.views["context"].drawn[0].expand(-1, exemplars.shape[1], -1)  # [B, X, 4]
        turned = batch.views["exemplars"]
        masks = covered(frames, turned.drawn[0], turned.angles, turned.aspects, size).flatten(0, 1)  # [B X, H, H]
        logs = {
            "recall": mask_recall(logits.detach()[:, 1] - logits.detach()[:, 0], masks),
            "recall_prior": mask_recall(masks.float().mean(dim=0, keepdim=True), masks),  # they lie in the middle
        }
        return ObjectiveOutput(correlation_loss(logits, masks), logs)

    def correlate(self, context: Tensor, grid: tuple[int, int], exemplars: Tensor) -> Tensor:
        """Maps [B X, 2, h, w] of context tokens [B, N, D] and exemplars' tokens [B, X, M, D]."""
        keys = self.exemplar_embed(exemplars).flatten(0, 1)  # [B X, M, C]
        queries = self.context_embed(context)
        queries = queries + sincos_positions(*grid, queries.shape[-1], queries.device).to(queries.dtype)
        queries = queries.repeat_interleave(exemplars.shape[1], dim=0)  # [B X, N, C]
        return self.classifier(self.block(queries, keys)).transpose(1, 2).unflatten(2, grid)

    def prepare_encoder(self, encoder: Encoder) -> None:
        if self.config.freeze_patch_projection:
            encoder.patch_projection().requires_grad_(False)

    def teacher_momentum(self) -> tuple[float, float]:
        return self.config.momentum

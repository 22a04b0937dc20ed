r"""MoCo v3: contrast two views of an image against the rest of the batch.

Letters: B images of this process, M of all processes, D hidden size, E embedding size.

    q_v = predictor(projector(student(x_v)))       k_v = projector_t(teacher(x_v))       both at norm 1
    ctr(q, k) = - log( exp(q . k+ / tau) / sum over M of exp(q . k / tau) ) * 2 tau
    loss      = ctr(q_1, k_2) + ctr(q_2, k_1)

Keys are gathered from all processes, and receive no gradient.

Citation: Chen, Xie, He 2021, "An empirical study of training self-supervised vision transformers", arXiv:2104.02057,
section 3 and algorithm 1 (loss), section 4 (heads; the patch projection is frozen at random initialisation).

The positions of an encoder that starts fresh are sines and cosines, and stay as they are.

Deviations: an encoder that brings learned positions goes on learning them. The teacher moves after each step,
not before the next one's keys. Batch norm in the heads keeps no running statistics, as none is ever used. With gradient
accumulation, negatives come from one forward's images. A frozen patch projection is frozen for every objective of the
run, and so are its positions; ``freeze_patch_projection: false`` suits continued pretraining.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..gather import concat_all_gather
from ..heads import batch_norm_mlp
from ..precision import in_float32
from ..validation import check_at_least, check_momentum, check_positive, check_two_views
from ..view_defaults import byol_views

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


@dataclasses.dataclass
class MoCoV3Config(ObjectiveConfig):
    """Options of :class:`MoCoV3`.

    Args:
        views: two views, or a reference to another objective's, such as ``"dino/global"``.
        temperature: tau.
        head_width: hidden width of projector (3 layers) and predictor (2 layers).
        embedding_size: E.
        freeze_patch_projection: keep the encoder's patch projection as it is.
        fixed_positions: keep the encoder's sine-cosine positions as they are, for every objective of the run. Positions
            that have been learned, or were drawn at random, are learned on.
        momentum: (start, end) of the EMA teacher's cosine schedule.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=byol_views)
    temperature: float = 0.2
    head_width: int = 4096
    embedding_size: int = 256
    freeze_patch_projection: bool = True
    fixed_positions: bool = True
    momentum: tuple[float, float] = (0.99, 1.0)

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, byol_views())
        check_two_views("moco_v3", self.views)
        check_positive("temperature", self.temperature)
        check_at_least("head_width", self.head_width, 1)
        check_at_least("embedding_size", self.embedding_size, 1)
        self.momentum = check_momentum(self.momentum)


@in_float32
def similarities(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cosines over the temperature: queries [B, E] and keys [M, E] to logits [B, M]."""
    return F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T / temperature


@in_float32
def contrastive_loss(logits: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """InfoNCE times 2 tau: logits [B, M] of :func:`similarities`; positives int64 [B], each query's own key."""
    return F.cross_entropy(logits, positives) * (2 * temperature)


class MoCoV3(Objective):
    """Symmetrised contrast of two views with a momentum encoder."""

    config_class = MoCoV3Config
    kind = "what"
    title = "MoCo v3"
    citation = """@inproceedings{chen2021empirical,
  title     = {An Empirical Study of Training Self-Supervised Vision Transformers},
  author    = {Chen, Xinlei and Xie, Saining and He, Kaiming},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year      = {2021}
}"""

    def __init__(self, config: MoCoV3Config, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        width, size = config.head_width, config.embedding_size
        self.projector = batch_norm_mlp([encoder.hidden_size, width, width, size])
        self.predictor = batch_norm_mlp([size, width, size])
        self.teacher_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"views": self.config.views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"student": Encode("views"), "teacher": Encode("views", tower="teacher")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        check_two_views("moco_v3", batch.views["views"])
        # View by view, as each has batch statistics of its own.
        queries = [self.predictor(self.projector(cls)) for cls in encodings["student"].cls.unbind(1)]  # 2 x [B, E]
        with torch.no_grad():
            own = torch.stack([self.teacher_projector(cls) for cls in encodings["teacher"].cls.unbind(1)], dim=1)
        keys, start = concat_all_gather(own)  # [M, 2, E]
        positives = start + torch.arange(len(own), device=own.device)  # [B]
        losses, hits = [], []
        for query, key in zip(queries, reversed(keys.unbind(1)), strict=True):
            logits = similarities(query, key, self.config.temperature)  # [B, M]
            losses.append(contrastive_loss(logits, positives, self.config.temperature))
            hits.append(logits.detach().argmax(dim=-1) == positives)
        return ObjectiveOutput(losses[0] + losses[1], {"accuracy": torch.cat(hits).float().mean()})

    def prepare_encoder(self, encoder: Encoder) -> None:
        if self.config.freeze_patch_projection:
            encoder.patch_projection().requires_grad_(False)
        if self.config.fixed_positions:
            encoder.fix_sincos_positions()

    def teacher_momentum(self) -> tuple[float, float]:
        return self.config.momentum

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.projector, self.teacher_projector)]

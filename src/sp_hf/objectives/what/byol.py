r"""BYOL: predict the other view's embedding by a slowly moving copy of oneself, without negatives.

Letters: B images, D hidden size, E embedding size.

    q_v  = predictor(projector(student(x_v)))       k_v = projector_t(teacher(x_v))       both at norm 1
    loss = mean over B of  |q_1 - k_2|^2 + |q_2 - k_1|^2   =   4 - 2 q_1 . k_2 - 2 q_2 . k_1

Citation: Grill et al. 2020, "Bootstrap your own latent: a new approach to self-supervised learning", arXiv:2006.07733,
section 3.1 (loss, equation 2), section 3.2 (heads, teacher), appendix B (augmentation).

Choices: EMA momentum from 0.996, as for 1000 epochs; 0.99 suits 300. For transformers an AdamW instead of the paper's
LARS, by which they are reported to collapse.

Deviations: the momentum moves by the run's shared cosine; batch norm in the heads keeps no running statistics.
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
from ..heads import batch_norm_mlp
from ..precision import in_float32
from ..retrieval import retrieval_accuracy
from ..validation import check_at_least, check_momentum, check_two_views
from ..view_defaults import byol_views

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


@dataclasses.dataclass
class BYOLConfig(ObjectiveConfig):
    """Options of :class:`BYOL`.

    Args:
        views: two views, or a reference to another objective's, such as ``"dino/global"``.
        head_width: hidden width of projector and predictor (2 layers each).
        embedding_size: E.
        momentum: (start, end) of the EMA teacher's cosine schedule.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=byol_views)
    head_width: int = 4096
    embedding_size: int = 256
    momentum: tuple[float, float] = (0.996, 1.0)

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, byol_views())
        check_two_views("byol", self.views)
        check_at_least("head_width", self.head_width, 1)
        check_at_least("embedding_size", self.embedding_size, 1)
        self.momentum = check_momentum(self.momentum)


@in_float32
def regression_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared distance at norm 1, from 0 to 4: [B, E] each."""
    return 2 - 2 * F.cosine_similarity(predictions, targets, dim=-1).mean()


class BYOL(Objective):
    """Regression of a momentum encoder's embedding of the other view."""

    config_class = BYOLConfig
    kind = "what"
    title = "BYOL"
    citation = """@inproceedings{grill2020bootstrap,
  title     = {Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning},
  author    = {Grill, Jean-Bastien and Strub, Florian and Altch{\\'e}, Florent and Tallec, Corentin
               and Richemond, Pierre and Buchatskaya, Elena and Doersch, Carl and Avila Pires, Bernardo and Guo, Zhaohan
               and Gheshlaghi Azar, Mohammad and Piot, Bilal and Kavukcuoglu, Koray and Munos, R{\\'e}mi
               and Valko, Michal},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2020}
}"""

    def __init__(self, config: BYOLConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        width, size = config.head_width, config.embedding_size
        self.projector = batch_norm_mlp([encoder.hidden_size, width, size], last_norm=False)
        self.predictor = batch_norm_mlp([size, width, size], last_norm=False)
        self.teacher_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"views": self.config.views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"student": Encode("views"), "teacher": Encode("views", tower="teacher")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        check_two_views("byol", batch.views["views"])
        # View by view, as each has batch statistics of its own.
        queries = [self.predictor(self.projector(cls)) for cls in encodings["student"].cls.unbind(1)]  # 2 x [B, E]
        with torch.no_grad():
            keys = [self.teacher_projector(cls) for cls in encodings["teacher"].cls.unbind(1)]
        pairs = list(zip(queries, reversed(keys), strict=True))
        loss = regression_loss(*pairs[0]) + regression_loss(*pairs[1])
        normalised = [[F.normalize(x.float(), dim=-1) for x in pair] for pair in pairs]
        accuracy = torch.stack([retrieval_accuracy(*pair) for pair in normalised]).mean()
        spread = normalised[0][1].var(dim=0, correction=0).sum().sqrt()  # 1: anywhere on the sphere; 0: all alike
        return ObjectiveOutput(loss, {"accuracy": accuracy, "target_std": spread})

    def teacher_momentum(self) -> tuple[float, float]:
        return self.config.momentum

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.projector, self.teacher_projector)]

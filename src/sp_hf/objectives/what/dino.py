r"""DINO: self-distillation without labels.

Letters: B images, G global views, V global and local views, D hidden size, K prototypes.

    p_t(g) = softmax((head_t(teacher(x_g)) - c) / tau_t)        p_s(v) = softmax(head_s(student(x_v)) / tau_s)
    loss   = mean over B and over pairs g != v of  - p_t(g) . log p_s(v)
    c     <- m c + (1 - m) mean of the teacher's outputs         once per optimizer step, over all processes

Citation: Caron et al. 2021, "Emerging properties in self-supervised vision transformers", arXiv:2104.14294, section 3.1
(loss, centring and sharpening, momentum teacher, multi-crop, head) and appendices B, C; algorithm 1.

Two options of DINOv2's (Oquab et al. 2023, arXiv:2304.07193, section 4), which keep small batches from going flat:
Sinkhorn-Knopp in place of the centre, over all global views of all processes together (:mod:`..centring`), and KoLeo on
the student's class tokens, before the head, summed over the global views (:mod:`..koleo`).

Deviations: the teacher temperature is warmed up step by step, not epoch by epoch. With gradient accumulation the centre
moves once, by the mean over the whole effective batch; Sinkhorn-Knopp and KoLeo see one forward's images. Clipping
a weight at a time, stochastic depth and the schedule of weight decay are options of the run (``--grad_clipping
per_parameter``, ``--stochastic_depth``, ``--weight_decay_end``), set in recipes/dino_sp_vit_small.yaml. The defaults
are the paper's for ViT-S/16 at 224 px. Views are not resampled bicubically (:mod:`sp_hf.views.resampling`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ...views.photometric import Photometric
from ...views.spec import ViewSpec
from ..base import Batch, Encode, ObjectiveOutput, Progress
from ..centring import sinkhorn
from ..koleo import koleo_loss
from ..precision import in_float32
from ..running_centre import StepMean
from ..self_distillation import SelfDistillation, SelfDistillationConfig
from ..validation import check_at_least, check_choice

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

Centring = Literal["mean", "sinkhorn"]


def _default_global() -> ViewSpec:
    return ViewSpec(count=2, size=224, area=(0.4, 1.0), flip="own", photometric=Photometric.dino_global())


def _default_local() -> ViewSpec:
    return ViewSpec(count=8, size=96, area=(0.05, 0.4), flip="own", photometric=Photometric.dino_local())


@dataclasses.dataclass
class DINOConfig(SelfDistillationConfig):
    """Options of :class:`DINO`, besides those of every :class:`SelfDistillationConfig`.

    Args:
        centring: ``"mean"``, a running mean of the teacher's outputs, or ``"sinkhorn"``, Sinkhorn-Knopp of each batch.
        koleo_weight: of KoLeo in this loss, 0 for none (DINOv2: 0.1). It needs two images or more a process.
    """

    global_views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_global)
    local_views: ViewSpec | dict | str | None = dataclasses.field(default_factory=_default_local)
    centring: Centring = "mean"
    koleo_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("centring", self.centring, get_args(Centring))
        check_at_least("koleo_weight", self.koleo_weight, 0)


@in_float32
def teacher_probabilities(logits: Tensor, centre: Tensor, temperature: Tensor | float) -> Tensor:
    """Centred and sharpened: logits [B, G, K], centre [K] to [B, G, K], without gradient."""
    return F.softmax((logits.detach() - centre) / temperature, dim=-1)


@in_float32
def dino_loss(student_logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy over all pairs of a teacher's view and another view of the student's.

    Args:
        student_logits: [B, V, K]; the first G views are the teacher's.
        targets: [B, G, K], probabilities of the teacher.
        temperature: tau_s.
    """
    log_probabilities = F.log_softmax(student_logits / temperature, dim=-1)
    cross_entropy = -torch.einsum("bgk,bvk->gv", targets, log_probabilities) / len(targets)  # [G, V]
    g, v = cross_entropy.shape
    different = ~torch.eye(g, v, dtype=torch.bool, device=targets.device)
    return (cross_entropy * different).sum() / (g * v - g)


class DINO(SelfDistillation):
    """Multi-crop self-distillation with a centred and sharpened EMA teacher."""

    config_class = DINOConfig
    config: DINOConfig
    centre: Tensor  # [K]
    teacher_temperature: Tensor
    kind = "what"
    title = "DINO"
    remedies = ("centring: sinkhorn", "koleo_weight: 0.1")
    citation = """@inproceedings{caron2021emerging,
  title     = {Emerging Properties in Self-Supervised Vision Transformers},
  author    = {Caron, Mathilde and Touvron, Hugo and Misra, Ishan and J{\\'e}gou, Herv{\\'e} and Mairal, Julien
               and Bojanowski, Piotr and Joulin, Armand},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year      = {2021}
}"""

    def __init__(self, config: DINOConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        if config.centring == "mean":
            self.register_buffer("centre", torch.zeros(config.prototypes))
        self.register_buffer("teacher_temperature", torch.tensor(config.teacher_temperature[0]))
        self.mean = StepMean()

    def warming_temperatures(self) -> list[tuple[tuple[float, float], Tensor]]:
        return [(self.config.teacher_temperature, self.teacher_temperature)]

    def requests(self, batch: Batch) -> dict[str, Encode]:
        student = {f"student_{view}": Encode(view) for view in batch.views}
        return {**student, "teacher": Encode("global", tower="teacher")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        student = torch.cat([encodings[f"student_{view}"].cls for view in self.view_specs()], dim=1)  # [B, V, D]
        logits = self.head(student)  # [B, V, K]
        with torch.no_grad():
            teacher_logits = self.teacher_head(encodings["teacher"].cls)  # [B, G, K]
            targets = self._targets(teacher_logits)
            entropy = torch.special.entr(targets).sum(dim=-1).mean()
        loss = dino_loss(logits, targets, self.config.student_temperature)
        logs = {"teacher_entropy": entropy, "divergence": loss.detach() - entropy}
        if self.config.koleo_weight:
            koleo = torch.stack([koleo_loss(view) for view in encodings["student_global"].cls.unbind(1)])  # [G]
            loss = loss + self.config.koleo_weight * koleo.sum()
            logs["koleo"] = koleo.detach().mean()
        return ObjectiveOutput(loss, logs)

    def _targets(self, teacher_logits: Tensor) -> Tensor:
        """[B, G, K] to probabilities [B, G, K]."""
        if self.config.centring == "sinkhorn":
            return sinkhorn(teacher_logits.flatten(0, 1), self.teacher_temperature).view_as(teacher_logits)
        if self.training:
            self.mean.add(teacher_logits)
        return teacher_probabilities(teacher_logits, self.centre, self.teacher_temperature)

    def set_progress(self, progress: Progress) -> None:
        super().set_progress(progress)
        if self.config.centring == "mean":
            self.mean.begin(self.centre)

    def after_optimizer_step(self) -> None:
        if self.config.centring == "mean":
            self.mean.move(self.centre, self.config.centre_momentum)

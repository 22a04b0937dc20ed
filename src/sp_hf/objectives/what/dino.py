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

import copy
import dataclasses
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Progress
from ..centring import sinkhorn
from ..gather import all_reduce_sum
from ..heads import DINOHead
from ..koleo import koleo_loss
from ..precision import in_float32
from ..teacher_entropy import entropy_findings
from ..validation import check_at_least, check_choice, check_fraction, check_positive, pair

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding
    from ..diagnosis import Finding, LogHistory

Centring = Literal["mean", "sinkhorn"]


def _default_global() -> ViewSpec:
    return ViewSpec(count=2, size=224, area=(0.4, 1.0), flip="own", photometric=Photometric.dino_global())


def _default_local() -> ViewSpec:
    return ViewSpec(count=8, size=96, area=(0.05, 0.4), flip="own", photometric=Photometric.dino_local())


@dataclasses.dataclass
class DINOConfig(ObjectiveConfig):
    """Options of :class:`DINO`.

    Args:
        global_views: seen by teacher and student; at least 2.
        local_views: seen by the student only; ``None`` for none.
        prototypes: K, outputs of the head.
        head_width, head_bottleneck: of the projection head.
        norm_last_layer: keep the head's last layer at norm 1. The paper's ViT-B needs it to be stable; its released
            ViT-S learns the norm (``false``), which is a little better there.
        student_temperature: tau_s.
        teacher_temperature: (start, end) of tau_t's linear warm-up.
        warmup_epochs: of the teacher temperature.
        freeze_last_layer_epochs: epochs in which the head's last layer is not trained.
        centring: ``"mean"``, a running mean of the teacher's outputs, or ``"sinkhorn"``, Sinkhorn-Knopp of each batch.
        centre_momentum: m, of the running mean.
        koleo_weight: of KoLeo in this loss, 0 for none (DINOv2: 0.1). It needs two images or more a process.
        momentum: (start, end) of the EMA teacher's cosine schedule.
    """

    global_views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_global)
    local_views: ViewSpec | dict | str | None = dataclasses.field(default_factory=_default_local)
    prototypes: int = 65536
    head_width: int = 2048
    head_bottleneck: int = 256
    norm_last_layer: bool = True
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    warmup_epochs: float = 30
    freeze_last_layer_epochs: float = 1
    centring: Centring = "mean"
    centre_momentum: float = 0.9
    koleo_weight: float = 0.0
    momentum: tuple[float, float] = (0.996, 1.0)

    def __post_init__(self) -> None:
        self.global_views = as_view_spec(self.global_views, _default_global())
        self.local_views = None if self.local_views is None else as_view_spec(self.local_views, _default_local())
        if isinstance(self.global_views, ViewSpec):
            check_at_least("global_views.count", self.global_views.count, 2)
        for option in ("prototypes", "head_width", "head_bottleneck"):
            check_at_least(option, getattr(self, option), 1)
        for option in ("warmup_epochs", "freeze_last_layer_epochs"):
            check_at_least(option, getattr(self, option), 0)
        check_positive("student_temperature", self.student_temperature)
        self.teacher_temperature = pair("teacher_temperature", self.teacher_temperature)
        for temperature in self.teacher_temperature:
            check_positive("teacher_temperature", temperature)
        self.momentum = pair("momentum", self.momentum)
        for momentum in self.momentum:
            check_fraction("momentum", momentum)
        check_choice("centring", self.centring, get_args(Centring))
        check_fraction("centre_momentum", self.centre_momentum)
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


class DINO(Objective):
    """Multi-crop self-distillation with a centred and sharpened EMA teacher."""

    config_class = DINOConfig
    centre: Tensor  # [K]
    teacher_temperature: Tensor
    kind = "what"
    title = "DINO"
    citation = """@inproceedings{caron2021emerging,
  title     = {Emerging Properties in Self-Supervised Vision Transformers},
  author    = {Caron, Mathilde and Touvron, Hugo and Misra, Ishan and J{\\'e}gou, Herv{\\'e} and Mairal, Julien
               and Bojanowski, Piotr and Joulin, Armand},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision},
  year      = {2021}
}"""

    def __init__(self, config: DINOConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = DINOHead(
            encoder.hidden_size, config.prototypes, config.head_width, config.head_bottleneck, config.norm_last_layer
        )
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        if config.centring == "mean":
            self.register_buffer("centre", torch.zeros(config.prototypes))
        self.register_buffer("teacher_temperature", torch.tensor(config.teacher_temperature[0]))
        self.last_layer_frozen = config.freeze_last_layer_epochs > 0
        # Of the forwards since the last optimizer step. No buffers: DDP would overwrite them by those of rank 0.
        self._sum: Tensor | None = None  # [K]
        self._count = 0

    def view_specs(self) -> dict[str, ViewSpec | str]:
        specs = {"global": self.config.global_views}
        return specs if self.config.local_views is None else {**specs, "local": self.config.local_views}

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
            self._accumulate(teacher_logits.flatten(0, 1))
        return teacher_probabilities(teacher_logits, self.centre, self.teacher_temperature)

    def _accumulate(self, teacher_logits: Tensor) -> None:
        total = teacher_logits.sum(dim=0, dtype=torch.promote_types(torch.float32, teacher_logits.dtype))
        self._sum = total if self._sum is None else self._sum + total
        self._count += len(teacher_logits)

    def teacher_momentum(self) -> tuple[float, float]:
        return self.config.momentum

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.head, self.teacher_head)]

    def set_progress(self, progress: Progress) -> None:
        start, end = self.config.teacher_temperature
        done = min(progress.epoch / self.config.warmup_epochs, 1.0) if self.config.warmup_epochs else 1.0
        self.teacher_temperature.fill_(start + (end - start) * done)
        self.last_layer_frozen = progress.epoch < self.config.freeze_last_layer_epochs

    def before_optimizer_step(self) -> None:
        if self.last_layer_frozen:
            for parameter in self.head.last_layer.parameters():
                parameter.grad = None

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        if self._sum is None:
            return
        statistics = all_reduce_sum(torch.cat([self._sum, self._sum.new_tensor([self._count])]))  # [K + 1]
        mean = (statistics[:-1] / statistics[-1]).to(self.centre.dtype)
        self.centre.lerp_(mean, 1 - self.config.centre_momentum)
        self._sum, self._count = None, 0

    def diagnose(self, history: LogHistory) -> list[Finding]:
        return entropy_findings(history, self.config.prototypes)

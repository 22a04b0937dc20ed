"""What DINO, iBOT and SelfPatch share: a student that learns the prototypes which an EMA teacher sees in other views.

Options, heads, the warm-up of the teacher's temperature, and the freezing of the head's last layer. Losses, targets and
centres are the objective's own.

Citation: Caron et al. 2021, "Emerging properties in self-supervised vision transformers", arXiv:2104.14294, section 3.1
(DINO).
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..views.spec import ViewSpec, as_view_spec
from .base import Objective, ObjectiveConfig, Progress
from .heads import DINOHead
from .teacher_entropy import entropy_findings
from .validation import check_at_least, check_fraction, check_positive, pair
from .view_defaults import default_views

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder
    from .diagnosis import Finding, LogHistory


@dataclasses.dataclass
class SelfDistillationConfig(ObjectiveConfig):
    """Options of a :class:`SelfDistillation`; a subclass declares the views, with its defaults, and its own.

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
        centre_momentum: m, of the running mean that a teacher's outputs are centred by.
        momentum: (start, end) of the EMA teacher's cosine schedule.
    """

    global_views: ViewSpec | dict | str = ""
    local_views: ViewSpec | dict | str | None = None
    prototypes: int = 65536
    head_width: int = 2048
    head_bottleneck: int = 256
    norm_last_layer: bool = True
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    warmup_epochs: float = 30
    freeze_last_layer_epochs: float = 1
    centre_momentum: float = 0.9
    momentum: tuple[float, float] = (0.996, 1.0)

    def __post_init__(self) -> None:
        defaults = default_views(type(self))
        self.global_views = as_view_spec(self.global_views, defaults["global_views"])
        if self.local_views is not None:
            self.local_views = as_view_spec(self.local_views, defaults["local_views"])
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
        check_fraction("centre_momentum", self.centre_momentum)


class SelfDistillation(Objective):
    """A student's head, its EMA teacher's, and the schedules of both."""

    config: SelfDistillationConfig

    def __init__(self, config: SelfDistillationConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = DINOHead(
            encoder.hidden_size, config.prototypes, config.head_width, config.head_bottleneck, config.norm_last_layer
        )
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.last_layer_frozen = config.freeze_last_layer_epochs > 0

    def warming_temperatures(self) -> list[tuple[tuple[float, float], Tensor]]:
        """The teacher's temperatures: (start, end) of each one's warm-up, and the buffer that holds it."""
        raise NotImplementedError

    def view_specs(self) -> dict[str, ViewSpec | str]:
        views: dict[str, Any] = {"global": self.config.global_views, "local": self.config.local_views}
        return {name: spec for name, spec in views.items() if spec is not None}

    def teacher_momentum(self) -> tuple[float, float]:
        return self.config.momentum

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.head, self.teacher_head)]

    def set_progress(self, progress: Progress) -> None:
        done = min(progress.epoch / self.config.warmup_epochs, 1.0) if self.config.warmup_epochs else 1.0
        for (start, end), temperature in self.warming_temperatures():
            temperature.fill_(start + (end - start) * done)
        self.last_layer_frozen = progress.epoch < self.config.freeze_last_layer_epochs

    def before_optimizer_step(self) -> None:
        if self.last_layer_frozen:
            for head in (student for student, _ in self.ema_heads() if isinstance(student, DINOHead)):
                for parameter in head.last_layer.parameters():
                    parameter.grad = None

    def diagnose(self, history: LogHistory) -> list[Finding]:
        return entropy_findings(history, self.config.prototypes, self.remedies)

r"""iBOT: self-distillation of views, and of the patches that the student does not see.

Letters: B images, G global views, V global and local views, N patch tokens of a global view, D hidden size, K
prototypes.

    m                                            blocks of patches of the student's global views: the mask token instead
    p_t(g), p_t(g, i)                            the teacher's, of whole views: softmax((head_t(.) - c) / tau_t), and c'
    p_s(v), p_s(g, i)                            the student's, of masked global and whole local views, one shared head
    L_cls   = mean over B and g != v of          - p_t(g) . log p_s(v)
    L_patch = mean over B and g of the mean over masked i of     - p_t(g, i) . log p_s(g, i);    0 without any
    loss    = class_weight L_cls + patch_weight L_patch
    c, c'   = running means of the teacher's class and patch outputs, as DINO's

Citation: Zhou et al. 2022, "iBOT: image BERT pre-training with online tokenizer", arXiv:2111.07832, section 3 (loss,
shared head), appendix A (multi-crop, masks); Caron et al. 2021, arXiv:2104.14294, for what it takes from DINO.

Deviations: temperatures are warmed up step by step. With gradient accumulation the centres move once, by the mean over
the whole effective batch. The defaults are the paper's for ViT-S/16 at 224 px.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...views.keyed_random import uniform
from ...views.photometric import Photometric
from ...views.spec import ViewSpec
from ..base import Batch, Encode, ObjectiveOutput, Progress, Requests, TokenMask
from ..masks import block_masks
from ..precision import in_float32
from ..prior import most_frequent_share
from ..running_centre import RunningCentre
from ..self_distillation import SelfDistillation, SelfDistillationConfig
from ..validation import check_at_least, check_fraction, check_positive, pair
from .dino import dino_loss, teacher_probabilities

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


def _default_global() -> ViewSpec:
    return ViewSpec(count=2, size=224, area=(0.25, 1.0), flip="own", photometric=Photometric.dino_global())


def _default_local() -> ViewSpec:
    return ViewSpec(count=10, size=96, area=(0.05, 0.25), flip="own", photometric=Photometric.dino_local())


@dataclasses.dataclass
class IBOTConfig(SelfDistillationConfig):
    """Options of :class:`IBOT`, besides those of every :class:`SelfDistillationConfig`.

    Class and patch tokens share the head. Global views are seen whole by the teacher and masked by the student.

    Args:
        class_weight, patch_weight: of the two losses.
        mask_probability: of a global view to be masked at all.
        mask_ratio: (low, high), share of its patches then, uniform.
        mask_aspect: least height / width of a block; its inverse is the largest.
        patch_temperature: as ``teacher_temperature``, for patch tokens.
    """

    global_views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_global)
    local_views: ViewSpec | dict | str | None = dataclasses.field(default_factory=_default_local)
    prototypes: int = 8192
    norm_last_layer: bool = False
    class_weight: float = 1.0
    patch_weight: float = 1.0
    mask_probability: float = 0.5
    mask_ratio: tuple[float, float] = (0.1, 0.5)
    mask_aspect: float = 0.3
    patch_temperature: tuple[float, float] = (0.04, 0.07)

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("class_weight", "patch_weight"):
            check_at_least(option, getattr(self, option), 0)
        for option in ("mask_ratio", "patch_temperature"):
            setattr(self, option, pair(option, getattr(self, option)))
        for temperature in self.patch_temperature:
            check_positive("patch_temperature", temperature)
        check_positive("mask_aspect", self.mask_aspect)
        for option in ("mask_probability", "mask_aspect"):
            check_fraction(option, getattr(self, option))
        low, high = self.mask_ratio
        check_fraction("mask_ratio", low)
        check_fraction("mask_ratio", high)
        if low > high:
            raise InputError(f"mask_ratio is {[low, high]}; give [low, high].")


@in_float32
def patch_loss(logits: Tensor, targets: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Sum of weighted cross-entropies: the student's logits [M, K], the teacher's probabilities [M, K], weights [M]."""
    cross_entropy = -(targets * F.log_softmax(logits / temperature, dim=-1)).sum(dim=-1)  # [M]
    return (weights * cross_entropy).sum()


def patch_weights(masked: Tensor) -> Tensor:
    """What each patch counts, so that views count alike whatever their masks: bool [B, G, N] to float [B, G, N]."""
    per_view = masked.sum(dim=-1, keepdim=True).clamp(min=1)
    return masked / per_view / (masked.shape[0] * masked.shape[1])


class IBOT(SelfDistillation):
    """DINO with masked patches, whose prototypes the teacher knows."""

    config_class = IBOTConfig
    config: IBOTConfig
    class_temperature: Tensor
    patch_temperature: Tensor
    kind: ClassVar[Literal["what", "where"]] = "what"
    title = "iBOT"
    needs_content_mask = True
    citation = """@inproceedings{zhou2022ibot,
  title     = {{iBOT}: Image {BERT} Pre-Training with Online Tokenizer},
  author    = {Zhou, Jinghao and Wei, Chen and Wang, Huiyu and Shen, Wei and Xie, Cihang and Yuille, Alan
               and Kong, Tao},
  booktitle = {International Conference on Learning Representations},
  year      = {2022}
}"""

    def __init__(self, config: IBOTConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.patch_size = encoder.patch_size
        self.class_centre = RunningCentre(config.prototypes, config.centre_momentum)
        self.patch_centre = RunningCentre(config.prototypes, config.centre_momentum)
        self.register_buffer("class_temperature", torch.tensor(config.teacher_temperature[0]))
        self.register_buffer("patch_temperature", torch.tensor(config.patch_temperature[0]))

    def warming_temperatures(self) -> list[tuple[tuple[float, float], Tensor]]:
        of_classes = (self.config.teacher_temperature, self.class_temperature)
        return [of_classes, (self.config.patch_temperature, self.patch_temperature)]

    def requests(self, batch: Batch) -> Requests:
        masked = self.draw_masks(batch)
        encodes = {"student_global": Encode("global", mask=TokenMask(masked=masked))}
        encodes |= {"student_local": Encode("local")} if "local" in batch.views else {}
        return Requests({**encodes, "teacher": Encode("global", tower="teacher")}, state=masked)

    def draw_masks(self, batch: Batch) -> Tensor:
        """Which patches of the global views the student does not see: bool [B, G, N]."""
        ratios, grid = self.draw_ratios(batch)
        return block_masks(batch.keys, "ibot/blocks", grid, ratios, self.config.mask_aspect)

    def draw_ratios(self, batch: Batch) -> tuple[Tensor, tuple[int, int]]:
        """The share of patches to mask of each global view, [B, G], and the grid of these patches."""
        pixels = batch.views["global"].pixels
        u = uniform(batch.keys, "ibot/ratio", (pixels.shape[1], 2))  # [B, G, 2]
        low, high = self.config.mask_ratio
        ratios = torch.where(u[..., 0] < self.config.mask_probability, low + (high - low) * u[..., 1], 0.0)
        rows, columns = (side // self.patch_size for side in pixels.shape[-2:])
        return ratios, (rows, columns)

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        masked, student, teacher = batch.state, encodings["student_global"], encodings["teacher"]
        classes = [student.cls] + ([encodings["student_local"].cls] if "student_local" in encodings else [])
        logits = self.head(torch.cat(classes, dim=1))  # [B, V, K]
        indices = masked.flatten().nonzero()[:, 0]  # [M], of all patches
        patch_head, teacher_patch_head = self.patch_heads()
        patch_logits = patch_head(student.patches.flatten(0, 2)[indices])  # [M, K]
        with torch.no_grad():
            targets = self.class_targets(self.teacher_head(teacher.cls))  # [B, G, K]
            patch_targets = self.patch_targets(teacher_patch_head(teacher.patches).flatten(0, 2), indices)  # [M, K]
            entropy = torch.special.entr(targets).sum(dim=-1).mean()
            answers = patch_targets.argmax(dim=-1)  # [M]
            hits = (patch_logits.argmax(dim=-1) == answers).sum()
        tau = self.config.student_temperature
        of_classes = dino_loss(logits, targets, tau)
        of_patches = patch_loss(patch_logits, patch_targets, patch_weights(masked).flatten()[indices], tau)
        loss = self.config.class_weight * of_classes + self.config.patch_weight * of_patches
        logs = {
            "class_loss": of_classes.detach(),
            "patch_loss": of_patches.detach(),
            "patch_accuracy": hits / masked.sum().clamp(min=1),
            "patch_accuracy_prior": most_frequent_share(answers, self.config.prototypes),
            "teacher_entropy": entropy,
        }
        return ObjectiveOutput(loss, logs)

    def patch_heads(self) -> tuple[nn.Module, nn.Module]:
        """The student's and the teacher's head of patch tokens: those of class tokens."""
        return self.head, self.teacher_head

    def class_targets(self, outputs: Tensor) -> Tensor:
        """The teacher's outputs [B, G, K] to probabilities."""
        probabilities = teacher_probabilities(outputs, self.class_centre.centre, self.class_temperature)
        self.class_centre.add(outputs)
        return probabilities

    def patch_targets(self, outputs: Tensor, indices: Tensor) -> Tensor:
        """The teacher's outputs of all patches [B * G * N, K] to probabilities of some [M, K]."""
        probabilities = teacher_probabilities(outputs[indices], self.patch_centre.centre, self.patch_temperature)
        self.patch_centre.add(outputs)
        return probabilities

    def set_progress(self, progress: Progress) -> None:
        super().set_progress(progress)
        self.class_centre.begin()
        self.patch_centre.begin()

    def after_optimizer_step(self) -> None:
        self.class_centre.step()
        self.patch_centre.step()

"""The protocol of an objective: what it asks for, what it gives back.

Letters: B images, V views of one image, N patch tokens, D hidden size.

A training run is a weighted sum of objectives over one shared encoder.  One step goes:

1. every objective has said, once, which views it wants (:meth:`Objective.view_specs`);
2. it says which of them it wants encoded, by which tower, under which mask (:meth:`Objective.requests`);
3. :class:`~sp_hf.model.modeling.SPForPreTraining` encodes each distinct (tower, resolution, mask) once;
4. the objective turns its encodings into a loss (:meth:`Objective.forward`).

Nothing outside an objective's file may depend on its name.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder, Encoding
    from ..views.sampler import Views
    from ..views.spec import ViewSpec
    from .diagnosis import Finding, LogHistory


@dataclasses.dataclass(frozen=True, eq=False)
class TokenMask:
    """Which patch tokens of each view the encoder sees, and which of them keep their position.

    Only :class:`~sp_hf.encoders.modeling_sp_vit.SPViTModel` can obey one. Compared by identity: the same object
    asked for twice is encoded once.

    Args:
        visible: int64 [B, V, n], indices of the patches that enter the encoder; ``None`` is all of them.
        dropped: bool [B, V, N] over *all* patches: ``True`` replaces the patch's positional embedding by
            ``position_token``. ``None`` drops none.
        position_token: [D], what stands in for a dropped position (learned by the objective).
    """

    visible: Tensor | None = None
    dropped: Tensor | None = None
    position_token: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Encode:
    """A request: encode this view set, by this tower, under this mask.

    Args:
        view: the objective's own name of the view set, a key of its ``view_specs()``.
        tower: ``"student"`` (receives gradient) or ``"teacher"`` (EMA copy, never receives gradient).
        mask: tokens hidden or stripped of their position; ``None`` for the whole view.
        positions: ``"view"``: positional embeddings laid over the view, as usual. ``"crop"``: sampled from
            the image's position field at the view's box (SPViTModel only; gives the box away, so never
            for an objective that predicts it).
        gradient: ``False``: the student as it is, without gradient. (A teacher never has any.)
    """

    view: str
    tower: Literal["student", "teacher"] = "student"
    mask: TokenMask | None = None
    positions: Literal["view", "crop"] = "view"
    gradient: bool = True

    @property
    def receives_gradient(self) -> bool:
        return self.gradient and self.tower == "student"


class Batch(NamedTuple):
    """What an objective sees of a batch: its own view sets, under its own names."""

    views: dict[str, Views]
    keys: Tensor  # int64 [B], one random key an image: see sp_hf.views.keyed_random
    labels: Tensor | None = None  # int64 [B], -1 for none; only for an objective with needs_labels


class ObjectiveOutput(NamedTuple):
    """A scalar loss (unweighted), and detached scalars to log beside it."""

    loss: Tensor
    logs: dict[str, Tensor]


class Progress(NamedTuple):
    """Where the run stands, in optimizer steps."""

    step: int
    total_steps: int
    steps_per_epoch: int

    @property
    def fraction(self) -> float:
        return min(self.step / max(self.total_steps, 1), 1.0)

    @property
    def epoch(self) -> float:
        return self.step / max(self.steps_per_epoch, 1)

    @property
    def total_epochs(self) -> float:
        return self.total_steps / max(self.steps_per_epoch, 1)


@dataclasses.dataclass
class ObjectiveConfig:
    """Base of every objective's options. Subclasses add fields; all must survive a trip through JSON.

    ``ViewSpec`` fields are declared as ``ViewSpec | dict`` (or ``| str``, a reference ``"dino/local"`` to
    another objective's view set) and made whole by :func:`sp_hf.views.spec.as_view_spec`.
    """

    weight: float = 1.0


class Objective(nn.Module):
    """One pretext task: its head(s), its views, its loss.

    Class attributes:
        config_class: dataclass of its options.
        kind: ``"what"`` or ``"where"``.
        needs_token_control: hides tokens or positions, so the encoder must be an ``SPViTModel``.
        needs_labels: learns from the images' labels (``batch.labels``), so the dataset must have them. An option
            ``num_labels`` that is ``None`` is then read from the dataset.
        citation: BibTeX of the paper, for model cards.
    """

    config_class: ClassVar[type[ObjectiveConfig]] = ObjectiveConfig
    kind: ClassVar[Literal["what", "where"]]
    needs_token_control: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    citation: ClassVar[str] = ""

    def __init__(self, config: ObjectiveConfig, encoder: Encoder) -> None:
        """Build heads from ``encoder.hidden_size`` and the like. Must not keep ``encoder``."""
        super().__init__()
        self.config = config

    def view_specs(self) -> dict[str, ViewSpec | str]:
        """The view sets it wants, by its own names; a string refers to another objective's ("dino/local")."""
        raise NotImplementedError

    def requests(self, batch: Batch) -> dict[str, Encode]:
        """What it wants encoded for this batch, by names of its choice (the keys of ``encodings`` below)."""
        raise NotImplementedError

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        """Loss of the batch. Every tensor of ``encodings[name]`` has leading dimensions [B, V]."""
        raise NotImplementedError

    # What follows has a default that does nothing.

    def teacher_momentum(self) -> tuple[float, float] | None:
        """(start, end) of the cosine momentum schedule of the EMA teacher; ``None``: needs no teacher."""
        return None

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        """(student, teacher) pairs of its own modules that move with the EMA teacher."""
        return []

    def prepare_encoder(self, encoder: Encoder) -> None:
        """Called on the student after it is built, and again after weights are loaded (e.g. to freeze a layer)."""

    def set_progress(self, progress: Progress) -> None:
        """Called before each optimizer step's first forward: move temperatures and other schedules."""

    def before_optimizer_step(self) -> None:
        """Called after clipping, before the optimizer (e.g. to cancel gradients of a frozen layer)."""

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Called once per optimizer step, never per forward: move centres and other running statistics."""

    def diagnose(self, history: LogHistory) -> list[Finding]:
        """What is amiss by its own log lines so far (names without its prefix); called at every log line.

        A finding is reported once, so it may be found again. Say nothing before ``history.settled``.
        """
        return []

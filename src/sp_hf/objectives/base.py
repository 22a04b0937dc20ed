"""The protocol of an objective: what it asks for, what it gives back.

Letters: B images, V views of one image, N patch tokens, D hidden size.

A training run is a weighted sum of objectives over one shared encoder.  One step goes:

1. every objective has said, once, which views it wants (:meth:`Objective.view_specs`);
2. it says which of them it wants encoded, by which tower, under which mask, and may make pixels of its own from them
   (:meth:`Objective.requests`);
3. :class:`~sp_hf.model.modeling.SPForPreTraining` encodes each distinct (tower, resolution, mask) once;
4. the objective turns its encodings into a loss (:meth:`Objective.forward`).

Nothing outside an objective's file may depend on its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import InputError

if TYPE_CHECKING:
    from ..encoders.encoder import Encoder, Encoding
    from ..views.sampler import Views
    from ..views.spec import ViewSpec
    from .diagnosis import Finding, LogHistory


@dataclasses.dataclass(frozen=True, eq=False)
class TokenMask:
    """What the encoder sees of each view's patches: which of them, with what content, where, and who attends to whom.

    ``masked`` is obeyed by most transformers (:attr:`~sp_hf.encoders.encoder.Encoder.supports_content_mask`), the rest
    by :class:`~sp_hf.encoders.modeling_sp_vit.SPViTModel` alone. All may be combined. Compared by identity: the same
    object asked for twice is encoded once.

    Args:
        visible: int64 [B, V, n], indices of the patches that enter the encoder; ``None`` is all of them.
        dropped: bool [B, V, N] over *all* patches: ``True`` replaces the patch's positional embedding by
            ``position_token``. ``None`` drops none.
        position_token: [D], what stands in for a dropped position (learned by the objective).
        masked: bool [B, V, N] over all patches: ``True`` replaces the patch's content (its embedding, before positions
            are added) by the encoder's mask token. ``None`` masks none.
        context: bool [B, V, N] over all patches: in every block, keys and values come from these (and the class token)
            alone, while every token asks. ``None`` is all.
    """

    visible: Tensor | None = None
    dropped: Tensor | None = None
    position_token: Tensor | None = None
    masked: Tensor | None = None
    context: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Encode:
    """A request: encode this view set, by this tower, under this mask.

    Args:
        view: the objective's own name of the view set: a key of its ``view_specs()``, or of the ``views`` that it
            makes in ``requests()``.
        tower: ``"student"`` (receives gradient), ``"teacher"`` (EMA copy, never receives gradient), or ``"initial"``
            (the encoder as the run began with it, for objectives with ``needs_initial``).
        mask: tokens hidden or stripped of content or position; ``None`` for the whole view.
        positions: ``"view"``: positional embeddings laid over the view, as usual. ``"crop"``: sampled from
            the image's position field at the view's box (SPViTModel only; gives the box away, so never
            for an objective that predicts it). ``None``: as the spec of the view set says, or of the one that its
            pixels were made from.
        gradient: ``False``: the student as it is, without gradient. (A teacher never has any.)
    """

    view: str
    tower: Literal["student", "teacher", "initial"] = "student"
    mask: TokenMask | None = None
    positions: Literal["view", "crop"] | None = None
    gradient: bool = True

    @property
    def receives_gradient(self) -> bool:
        return self.gradient and self.tower == "student"


class Requests(NamedTuple):
    """What an objective wants of a step.

    Args:
        encodes: by names of its choice, the keys of ``encodings`` in ``forward``.
        views: view sets of its own making (rotated, pasted together, cut anew), under names that its ``view_specs()``
            do not have. New tensors: the sampler's are shared with other objectives. Their leading dimensions [B', V']
            are their own; boxes and flips may be left out where none can be said.
        state: whatever else was drawn or made on the way, handed on to ``forward`` as ``batch.state``: masks, or the
            map of which pixels came from where.
    """

    encodes: Mapping[str, Encode]
    views: Mapping[str, Views] = {}
    state: Any = None


class Batch(NamedTuple):
    """What an objective sees of a batch: its own view sets, under its own names.

    Args:
        views: those of its ``view_specs()``; in ``forward``, also those it made in ``requests()``.
        keys: int64 [B], one random key an image: see :mod:`sp_hf.views.keyed_random`.
        labels: int64 [B], -1 for none; only for an objective with ``needs_labels``.
        ids: int64 [B], which image of the dataset each one is, the same in every epoch; ``None`` where the dataset is
            a stream.
        state: in ``forward``, the ``state`` of what ``requests()`` gave.
    """

    views: dict[str, Views]
    keys: Tensor
    labels: Tensor | None = None
    ids: Tensor | None = None
    state: Any = None


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

    Example:
        >>> from sp_hf.objectives import parse_entry
        >>> kind, config = parse_entry({"name": "spatial_prediction", "weight": 2.0})
        >>> config.weight, isinstance(config, ObjectiveConfig)
        (2.0, True)
    """

    weight: float = 1.0


class Objective(nn.Module):
    """One pretext task: its head(s), its views, its loss.

    Class attributes:
        config_class: dataclass of its options.
        kind: ``"what"`` or ``"where"``.
        needs_token_control: hides tokens or positions, so the encoder must be an ``SPViTModel``.
        needs_content_mask: puts a mask token in place of patches (``TokenMask.masked``), so the encoder must be able
            to. It then has a mask token, and trains it. May be set on the instance, where an option decides.
        needs_labels: learns from the images' labels (``batch.labels``), so the dataset must have them. An option
            ``num_labels`` that is ``None`` is then read from the dataset.
        needs_initial: compares with the checkpoint that the run starts from, of which a frozen copy is kept and saved.
        proposes: sources of boxes for its views (``ViewSpec.boxes``) that ``propose_boxes`` gives; on the instance,
            where an option decides, fewer.
        title: what model cards call it; "" is its name, with spaces.
        citation: BibTeX of the paper, for model cards.
        teaches: a sentence about "it", the model, on what it was made to learn, for model cards.
        measured: what it was measured to add to its control, with the seeds and where, for docs/objectives.md.
        own_metric: of what it logs, the number that says how far its own task got, and what tables call that.
        remedies: options of its own that help where embeddings or its teacher go flat, as recipes write them.

    Example:
        >>> import sp_hf
        >>> encoder = sp_hf.resolve_encoder("vit-micro-8")
        >>> kind = sp_hf.OBJECTIVES["spatial_prediction"]
        >>> issubclass(kind, sp_hf.Objective), kind.kind
        (True, 'where')
        >>> kind(kind.config_class(head_width=32), encoder).view_specs()["local"].flip
        'shared'
    """

    config_class: ClassVar[type[ObjectiveConfig]] = ObjectiveConfig
    kind: ClassVar[Literal["what", "where"]]
    needs_token_control: ClassVar[bool] = False
    needs_content_mask: bool = False
    needs_labels: ClassVar[bool] = False
    needs_initial: ClassVar[bool] = False
    proposes: tuple[str, ...] = ()
    title: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    config: Any  # of config_class
    teaches: ClassVar[str] = ""
    measured: ClassVar[str] = ""
    own_metric: ClassVar[tuple[str, str] | None] = None
    remedies: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ObjectiveConfig, encoder: Encoder) -> None:
        """Build heads from ``encoder.hidden_size`` and the like. Must not keep ``encoder``."""
        super().__init__()
        self.config = config

    def view_specs(self) -> dict[str, ViewSpec | str]:
        """The view sets it wants, by its own names; a string refers to another objective's ("dino/local")."""
        raise NotImplementedError

    def requests(self, batch: Batch) -> Requests | dict[str, Encode]:
        """What it wants of this batch; a plain dict is ``Requests`` of encodings alone.

        Called once a forward. All randomness comes from ``batch.keys``; ``batch.views`` stay as they are.
        """
        raise NotImplementedError

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        """Loss of the batch, with what ``requests()`` made in ``batch.views`` and ``batch.state``.

        Every tensor of ``encodings[name]`` has the leading dimensions of the view set it is of, [B, V].
        """
        raise NotImplementedError

    def prepared(self, batch: Batch) -> tuple[Batch, Mapping[str, Encode]]:
        """The batch as ``forward`` gets it, and what is to be encoded of it: :meth:`requests`, taken in.

        Raises:
            ValueError: a view set of its own making has the name of one that it asked for, or a request names neither.
        """
        wanted = self.requests(batch)
        wanted = wanted if isinstance(wanted, Requests) else Requests(wanted)
        if taken := sorted(wanted.views.keys() & batch.views.keys()):
            raise InputError(f"{type(self).__name__} made views called {taken}, as those it asked for; rename them.")
        views = {**batch.views, **wanted.views}
        if unknown := sorted({request.view for request in wanted.encodes.values()} - views.keys()):
            raise InputError(f"{type(self).__name__} wants {unknown} encoded, but its views are {sorted(views)}.")
        return batch._replace(views=views, state=wanted.state), wanted.encodes

    # What follows has a default that does nothing.

    def teacher_momentum(self) -> tuple[float, float] | None:
        """(start, end) of the cosine momentum schedule of the EMA teacher; ``None``: needs no teacher."""
        return None

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        """(student, teacher) pairs of its own modules that move with the EMA teacher."""
        return []

    def prepare_encoder(self, encoder: Encoder) -> None:
        """Called on the student after it is built, and again after weights are loaded.

        ``requires_grad_(False)`` freezes a part of it.
        """

    @torch.no_grad()
    def propose_boxes(
        self, encoder: Encoder, canvases: Tensor, aspects: Tensor, ids: Tensor | None
    ) -> dict[str, Tensor]:
        """Boxes of each source in ``proposes``, before views are cut (say, of objects, from the encoder's tokens).

        Args:
            encoder: as it stands; the EMA teacher where the run has one, otherwise the student.
            canvases: uint8 [B, 3, S, S], whole images squashed to squares. aspects: [B], their width / height.
            ids: int64 [B], to remember what was found; ``None``: a stream.

        Returns:
            {source: [B, K, 4] cxcywh in the image, rows without width for none}.
        """
        return {}

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

"""The pretraining model: encode once, ask each objective, sum.

    loss = sum_k  weight_k * loss_k(views, encodings)

Letters: B images, V views of one image, H pixels a side, N patch tokens, D hidden size.

The encoder runs once for each distinct (tower, resolution, mask, with or without gradient): all unmasked view sets of
one size go through it as one batch, however many objectives asked for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..boundary import reading_checkpoint
from ..encoders.encoder import Encoder
from ..encoders.model_types import content_mask_types
from ..errors import InputError
from ..objectives import build_objective, to_entry
from ..objectives.base import Batch, Encode, Objective, Progress
from ..views.layout import parents_first
from ..views.sampler import Views
from ..views.spec import ViewSpec, as_view_spec
from .configuration import SPConfig
from .encoding import encode_all, identity, monitored, with_positions
from .teacher import cosine_schedule, make_teacher, update_teacher


@dataclasses.dataclass
class SPOutput(ModelOutput):
    """What :class:`SPForPreTraining` returns.

    Attributes:
        loss: scalar, the weighted sum.
        losses: {objective: scalar}, unweighted and detached.
        logs: {"objective/what": scalar}, detached.
        embeddings: [B, D], the student's class token of each image's first view, detached: for monitoring.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    logs: dict[str, Tensor] | None = None
    embeddings: Tensor | None = None


class SPForPreTraining(PreTrainedModel):
    """One encoder and the objectives that train it.

    Args:
        config: see :class:`~sp_hf.model.configuration.SPConfig`.
        encoder: a ready encoder to continue from; built fresh from the configuration when ``None``.

    Raises:
        ValueError: no objectives, an unknown one, an encoder that an objective cannot use, a view size that the
            patch size does not divide, or a reference to a view set that nobody asks for.

    Example:
        >>> import sp_hf
        >>> encoder = sp_hf.resolve_encoder("vit-micro-8", image_size=32)
        >>> views = {"count": 2, "size": 16, "area": [0.1, 0.5]}
        >>> where = {"name": "spatial_prediction", "views": views, "head_width": 32}
        >>> model = sp_hf.SPForPreTraining(sp_hf.SPConfig(encoder.config, [where]), encoder)
        >>> list(model.objectives), list(model.view_specs)
        (['spatial_prediction'], ['spatial_prediction/local'])
    """

    config_class = SPConfig
    base_model_prefix = "encoder"
    main_input_name = "views"
    supports_gradient_checkpointing = True
    objectives: Any  # an nn.ModuleDict of Objective, by name

    def __init__(self, config: SPConfig, encoder: Encoder | None = None) -> None:
        super().__init__(config)
        if not config.objectives:
            raise InputError("SPConfig.objectives is empty: name at least one, e.g. [{'name': 'dino'}].")
        if encoder is None:
            encoder = Encoder.from_config(config.build_encoder_config(), config.image_mean, config.image_std)
        self.encoder = encoder
        self.objectives = nn.ModuleDict()
        for entry in config.objectives:
            if str(entry.get("name")) in self.objectives:
                raise InputError(f"objective {entry['name']!r} is listed twice; give it once with its weight.")
            objective = build_objective(entry, self.encoder)
            self._check_encoder(entry["name"], objective)
            self.objectives[entry["name"]] = objective
        config.objectives = self.resolved_objectives()  # defaults included: later versions may have others
        self._resolve_views()
        self.momentum_schedule = self._resolve_momentum()
        if any(objective.needs_content_mask for objective in self.objectives.values()):
            self.encoder.train_mask_token()
        self.teacher = make_teacher(self.encoder) if self.momentum_schedule is not None else None
        anchored = any(objective.needs_initial for objective in self.objectives.values())
        self.initial = make_teacher(self.encoder) if anchored else None
        self._prepare_encoder()
        self.post_init()
        self._no_split_modules = self.encoder.layer_classes

    def _prepare_encoder(self) -> None:
        for objective in self.objectives.values():
            objective.prepare_encoder(self.encoder)
        self._frozen = frozenset(name for name, p in self.named_parameters() if not p.requires_grad)

    def init_weights(self) -> None:
        """Encoder and heads initialise themselves as they are built, and a loaded encoder must stay as it is."""

    def get_input_embeddings(self) -> None:  # type: ignore[override]  # transformers' own callers take None
        """None: there is no vocabulary. FSDP asks, to keep tied embeddings together."""

    @property
    def needs_labels(self) -> bool:
        """Whether an objective learns from labels."""
        return any(objective.needs_labels for objective in self.objectives.values())

    def _check_encoder(self, name: str, objective: Objective) -> None:
        """Raise ``ValueError`` unless the encoder can do what the objective asks of it."""
        kind = self.encoder.config.model_type
        if objective.needs_content_mask and not self.encoder.supports_content_mask:
            raise InputError(
                f"objective {name!r} puts a mask token in place of patches, which {kind!r} has no argument for; use one"
                f" of {', '.join(content_mask_types())}."
            )
        crops = any(isinstance(s, ViewSpec) and s.positions == "crop" for s in objective.view_specs().values())
        if (objective.needs_token_control or crops) and not self.encoder.supports_token_control:
            act = "hides tokens or positions" if objective.needs_token_control else "has views with positions: crop"
            raise InputError(
                f"objective {name!r} {act}, which {kind!r} cannot do; use a ViT (a vit-* preset, or a ViT checkpoint),"
                " which is then built as SPViTModel."
            )

    # Views -----------------------------------------------------------------------------------------------------

    def _resolve_views(self) -> None:
        """Give every view set one global name ("dino/local") and check the sizes against the encoder."""
        self.view_specs: dict[str, ViewSpec] = {}
        self._names: dict[str, dict[str, str]] = {}  # objective -> its own name -> global name
        references = []
        for name, objective in self.objectives.items():
            self._names[name] = {}
            specs = {local: as_view_spec(spec) for local, spec in objective.view_specs().items()}
            for local, spec in specs.items():
                if isinstance(spec, str):
                    references.append((name, local, spec))
                    self._names[name][local] = spec
                else:
                    self.encoder.patches_of(spec.size)
                    if spec.inside in specs:  # by the objective's own name; otherwise another's, by its full name
                        parent = specs[spec.inside]
                        full_name = parent if isinstance(parent, str) else f"{name}/{spec.inside}"
                        spec = dataclasses.replace(spec, inside=full_name)
                    self.view_specs[f"{name}/{local}"] = spec
                    self._names[name][local] = f"{name}/{local}"
        for name, local, target in references:
            if target not in self.view_specs:
                raise InputError(
                    f"objective {name!r} shares the views {target!r} as its {local!r}, but there are only"
                    f" {sorted(self.view_specs)}."
                )
        parents_first(self.view_specs)  # raises where a parent cannot be

    @property
    def box_columns(self) -> list[str]:
        """Sources of given boxes that no objective proposes: columns of the dataset."""
        proposed = {source for objective in self.objectives.values() for source in objective.proposes}
        return sorted({spec.boxes for spec in self.view_specs.values() if spec.boxes is not None} - proposed)

    @torch.no_grad()
    def propose_boxes(self, canvases: Tensor, aspects: Tensor, ids: Tensor | None = None) -> dict[str, Tensor]:
        """{source: [B, K, 4]}, what the objectives propose; see :meth:`.Objective.propose_boxes`."""
        proposed: dict[str, Tensor] = {}
        encoder = self.encoder if self.teacher is None else self.teacher
        for objective in self.objectives.values():
            if objective.proposes:
                proposed |= objective.propose_boxes(encoder, canvases, aspects, ids)
        return proposed

    # Teacher and schedules ---------------------------------------------------------------------------------------

    def _resolve_momentum(self) -> tuple[float, float] | None:
        asked = {n: o.teacher_momentum() for n, o in self.objectives.items() if o.teacher_momentum() is not None}
        if not asked:
            return None
        if self.config.teacher_momentum is not None:
            start, end = self.config.teacher_momentum
            return float(start), float(end)
        if len({tuple(m) for m in asked.values()}) > 1:
            raise InputError(
                f"the objectives share one EMA teacher but ask for different momenta {asked};"
                " set teacher_momentum: [start, end] to choose."
            )
        start, end = next(iter(asked.values()))
        return start, end

    def train(self, mode: bool = True) -> SPForPreTraining:
        super().train(mode)
        for tower in (self.teacher, self.initial):
            if tower is not None:
                tower.eval()
        return self

    def set_progress(self, progress: Progress) -> None:
        """Before each optimizer step: move every schedule to where the run stands."""
        for objective in self.objectives.values():
            objective.set_progress(progress)

    def before_optimizer_step(self) -> None:
        """After clipping, before the optimizer."""
        for objective in self.objectives.values():
            objective.before_optimizer_step()

    @torch.no_grad()
    def after_optimizer_step(self, progress: Progress) -> float | None:
        """Once per optimizer step: move centres, the teacher and the teachers of heads.

        Returns:
            The momentum used, or ``None`` without a teacher.
        """
        for objective in self.objectives.values():
            objective.after_optimizer_step()
        if self.teacher is None or self.momentum_schedule is None:
            return None
        start, end = self.momentum_schedule
        momentum = cosine_schedule(start, end, progress.fraction)
        update_teacher(self.encoder, self.teacher, momentum)
        for objective in self.objectives.values():
            for student, teacher in objective.ema_heads():
                update_teacher(student, teacher, momentum)
        return momentum

    # Saving and loading ------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As transformers', and what takes no gradient (teachers, frozen layers) stays so."""
        with reading_checkpoint(str(args[0] if args else kwargs.get("pretrained_model_name_or_path"))):
            loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in model._frozen)
        model._prepare_encoder()  # again, as what is frozen may depend on the weights
        return loaded

    def resolved_objectives(self) -> list[dict[str, Any]]:
        """Every objective with all of its options, as ``SPConfig.objectives`` takes them."""
        return [to_entry(name, objective.config) for name, objective in self.objectives.items()]

    def load_checkpoint(self, folder: str | Path) -> None:
        """Load every weight and buffer that ``save_pretrained`` wrote into ``folder``.

        Raises:
            RuntimeError: a weight is missing, left over or of another shape.
        """
        loaded = type(self).from_pretrained(folder)
        self.load_state_dict(loaded.state_dict(), strict=True)

    # One step ----------------------------------------------------------------------------------------------------

    def forward(
        self, views: Mapping[str, Views], keys: Tensor, labels: Tensor | None = None, ids: Tensor | None = None
    ) -> SPOutput:
        """Loss of one batch.

        Args:
            views: {"objective/name": Views}, everything :attr:`view_specs` names, from
                :class:`~sp_hf.views.sampler.ViewSampler`. Pixels [B, V, 3, H, H] in [0, 1].
            keys: int64 [B], one random key an image, for masks.
            labels: int64 [B], -1 for none, if an objective needs them; the others never see them.
            ids: int64 [B], which image of the dataset each one is; ``None``: a stream.
        """
        batches: dict[str, Batch] = {}
        requests: dict[str, dict[str, tuple[Encode, str]]] = {}
        sets = dict(views)
        for name, objective in self.objectives.items():
            own = {local: views[target] for local, target in self._names[name].items()}
            batch = Batch(own, keys, labels if objective.needs_labels else None, ids)
            batches[name], wanted = objective.prepared(batch)
            sets |= {f"{name}/{local}": batches[name].views[local] for local in batches[name].views.keys() - own.keys()}
            names = {local: self._names[name].get(local, f"{name}/{local}") for local in batches[name].views}
            requests[name] = {
                key: (with_positions(request, batches[name].views[request.view]), names[request.view])
                for key, request in wanted.items()
            }
        towers = {"student": self.encoder, "teacher": self.teacher, "initial": self.initial}
        encoded = encode_all([pair for pairs in requests.values() for pair in pairs.values()], sets, towers)

        loss: Tensor | None = None
        losses: dict[str, Tensor] = {}
        logs: dict[str, Tensor] = {}
        for name, objective in self.objectives.items():
            encodings = {key: encoded[identity(*pair)] for key, pair in requests[name].items()}
            output = objective(batches[name], encodings)
            weighted = objective.config.weight * output.loss
            loss = weighted if loss is None else loss + weighted
            losses[name] = output.loss.detach()
            logs.update({f"{name}/{key}": value.detach() for key, value in output.logs.items()})
        return SPOutput(loss=loss, losses=losses, logs=logs, embeddings=monitored(encoded))

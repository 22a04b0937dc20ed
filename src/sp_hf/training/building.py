"""The model that a run's arguments describe, made ready to be trained."""

from __future__ import annotations

from ..encoders.encoder import Encoder
from ..encoders.loading import resolve_encoder, starts_fresh
from ..errors import InputError
from ..model.configuration import SPConfig
from ..model.modeling import SPForPreTraining
from ..objectives import wants_checkpoint, wants_token_control
from ..optimisation.freezing import freeze
from ..optimisation.stochastic_depth import add_stochastic_depth
from ..run.arguments import ModelArguments, PretrainingArguments


def default_canvas_size(model: SPForPreTraining) -> int:
    """Large enough for every view: twice the largest, and so that no small box betrays its size by its blur."""
    specs = model.view_specs.values()
    clean = [spec.clean_canvas for spec in specs if spec.effective_resolution is not None]
    return max([spec.canvas_size for spec in specs] + clean)


def build_model(args: ModelArguments) -> SPForPreTraining:
    """The model that the arguments describe, its encoder fresh or loaded.

    Raises:
        ValueError: see :class:`~sp_hf.model.modeling.SPForPreTraining`.
    """
    guards = [entry["name"] for entry in args.entries if wants_checkpoint(entry)]
    if guards and starts_fresh(args.encoder):
        raise InputError(
            f"objective {guards[0]!r} keeps what the checkpoint that a run starts from knows, but {args.encoder} starts"
            " fresh: give --encoder a Hub id or a folder with weights, or leave the objective out."
        )
    token_control = args.position_field is not None or any(map(wants_token_control, args.entries))
    encoder: Encoder = resolve_encoder(
        args.encoder,
        revision=args.encoder_revision,
        image_size=args.image_size,
        token_control=token_control,
        initialisation=args.initialisation,
    )
    if args.attn_implementation is not None:
        encoder.set_attention(args.attn_implementation)
    if args.position_field is not None:
        encoder.add_position_field(args.position_field)
    config = SPConfig(
        encoder.config,
        args.entries,
        image_mean=encoder.image_mean,
        image_std=encoder.image_std,
        teacher_momentum=args.teacher_momentum or None,
    )
    return SPForPreTraining(config, encoder)


def prepare_student(model: SPForPreTraining, args: PretrainingArguments) -> None:
    """What training alone does to the encoder: frozen parts, branches dropped at random. Its teacher is made before.

    Raises:
        ValueError: the encoder has no such part, or no place to drop a branch at.
    """
    if args.freeze is not None:
        freeze(model.encoder, args.freeze)
    if args.stochastic_depth > 0:
        add_stochastic_depth(model.encoder, args.stochastic_depth)

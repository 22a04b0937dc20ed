"""One pretraining run from arguments to run folder (:mod:`sp_hf.run.folder`)."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..boundary import reading_checkpoint, refusals_of
from ..data.canvas_dataset import CanvasCollator, CanvasDataset
from ..data.datasets import LoadedImages, load_images
from ..data.given_images import GivenImages
from ..data.skipped import SkippedLedger
from ..encoders.encoder import Encoder
from ..encoders.given import describe_given
from ..encoders.loading import loaded_commit, resolve_encoder
from ..errors import FolderTakenError, InputError
from ..evaluation.online import online_probe
from ..evaluation.source import DataSource
from ..hub.failures import PushError
from ..model.configuration import SPConfig
from ..model.modeling import SPForPreTraining
from ..objectives import box_columns, packages_of, parse_entry, to_entry, wants_token_control
from ..optimisation.freezing import freeze
from ..optimisation.stochastic_depth import add_stochastic_depth
from ..run.arguments import DataArguments, ModelArguments, PretrainingArguments
from ..run.checkpoints import check_disk, last_checkpoint, remove_leftovers, resolve_checkpoint
from ..run.environment import write_environment
from ..run.folder import RunFolder, new_folder
from ..run.recipe import write_recipe
from . import callbacks
from .diagnosis import Diagnosis
from .hub_push import HubPush
from .image_count import with_num_images
from .labels import with_num_labels
from .pictures import draw_curves, draw_views
from .preflight import check_run
from .trainer import PretrainingTrainer

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class PretrainingResult:
    """What a run came to. It is a path, that of the run folder: functions that take a run take it as it is.

    Attributes:
        output_dir: the run folder.
        step: optimizer steps done.
        stopped_by: the signal that ended it early, if one did.
        finished: whether all steps were done; not so either where a collapse ended it.
        pushed: the finished run's address on the Hub, with ``--push_to_hub``.
        push_error: why it could not be pushed.

    Example:
        >>> from sp_hf import PretrainingResult
        >>> result = PretrainingResult(Path("runs/mine"), step=100, stopped_by=None)
        >>> Path(result) == result.output_dir
        True
        >>> result.encoder.as_posix()  # AutoModel.from_pretrained(result.encoder) loads it
        'runs/mine/encoder'
    """

    output_dir: Path
    step: int
    stopped_by: int | None
    finished: bool = True
    pushed: str | None = None
    push_error: str | None = None

    def __fspath__(self) -> str:
        return str(self.output_dir)

    @property
    def encoder(self) -> Path:
        """The folder of the encoder as its stock class."""
        return RunFolder(self.output_dir).encoder


def run_pretraining(
    model_args: ModelArguments, data_args: DataArguments, args: PretrainingArguments
) -> PretrainingResult:
    """Run it: load, check, train, export.

    Raises:
        ValueError: the arguments do not fit together (before any training).
        FileExistsError: the run folder holds another run and no resume was asked for.
        FileNotFoundError: no such dataset, encoder or checkpoint.
        DiskFullError: no room for checkpoints.
        PushError: ``--push_to_hub`` without a login or permission (before any training).
    """
    output = Path(args.output_dir)
    check_run(args)
    run = RunFolder(output)
    token, args.hub_token = args.hub_token, None  # transformers writes its arguments beside every checkpoint
    checkpoint = resolve_checkpoint(args.resume_from_checkpoint, output)
    if checkpoint is None and last_checkpoint(output) is not None:
        raise FolderTakenError(
            f"{output} already holds a run ({last_checkpoint(output).name}). Go on with it by"
            " --resume_from_checkpoint last, or choose another --output_dir."
        )
    if data_args.streaming and args.max_steps <= 0:
        raise InputError("--streaming needs --max_steps: a stream does not know its length.")
    hub = HubPush.from_arguments(args, token)
    images = load_images(
        data_args.dataset,
        config=data_args.dataset_config,
        split=data_args.dataset_split,
        revision=data_args.dataset_revision,
        streaming=data_args.streaming,
        image_column=data_args.image_column,
        label_column=data_args.label_column,
        extra_columns=sorted(set().union(*map(box_columns, model_args.objectives))),
    )
    if images.streaming and args.max_steps <= 0:
        raise InputError(f"{images.description} is a stream, which does not know its length: give --max_steps.")
    model_args.objectives = with_num_images(with_num_labels(model_args.objectives, images), images)
    set_seed(args.seed)
    model = build_model(model_args)
    prepare_student(model, args)
    model_args.encoder_revision = loaded_commit(model_args.encoder, model_args.encoder_revision)
    if checkpoint is not None:
        _check_same_run(checkpoint, model)
    canvas_size = data_args.canvas_size or default_canvas_size(model)
    with new_folder(output):
        trainer = build_trainer(model, images, canvas_size, data_args, args)
        check_disk(output, model)
    if args.process_index == 0:
        remove_leftovers(output)
        write_recipe(run.recipe, _resolved(model, model_args, data_args, args, canvas_size))
        write_environment(run.environment, args.world_size, packages_of(model.config.objectives))
        draw_views(run.views, images, canvas_size, model.view_specs, args.seed)
        logger.info("%s on %s", model.encoder.describe(), images.description)
        logger.info(args.describe_learning_rate())
    stop = callbacks.GracefulStop()
    trainer.add_callback(stop)
    if hub is not None:
        trainer.add_callback(hub)
    if checkpoint is not None:
        trainer.restore_own_state(checkpoint)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        stop.restore()
    if trainer.is_world_process_zero():
        draw_curves(run.curves, run.metrics)
    finished = trainer.state.global_step >= trainer.state.max_steps
    if finished:
        trainer.save_final(run)
    result = PretrainingResult(output, trainer.state.global_step, None if finished else stop.signal, finished)
    return result if hub is None else _push_last(hub, result)


def _push_last(hub: HubPush, result: PretrainingResult) -> PretrainingResult:
    """A finished run as it is; of one that was stopped, the checkpoint that is on its way."""
    if not result.finished:
        hub.wait()
        return result
    try:
        return dataclasses.replace(result, pushed=hub.push_finished(result.step).url)
    except PushError as error:
        return dataclasses.replace(result, push_error=str(error))


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
    token_control = args.position_field is not None or any(map(wants_token_control, args.objectives))
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
        args.objectives,
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


def build_trainer(
    model: SPForPreTraining,
    images: LoadedImages,
    canvas_size: int,
    data_args: DataArguments,
    args: PretrainingArguments,
) -> PretrainingTrainer:
    """The Trainer with its data and callbacks."""
    run = RunFolder(Path(args.output_dir))
    ledger = SkippedLedger(run.skipped_images if args.process_index == 0 else None, data_args.max_skipped)
    if images.streaming:
        args.ignore_data_skip = True  # the stream's saved position skips
        data: dict[str, Any] = {
            "train_dataset": images.dataset,
            "stream": {
                "images": images,
                "canvas_size": canvas_size,
                "shuffle_block": data_args.shuffle_block,
                "box_columns": model.box_columns,
            },
            "images_per_epoch": data_args.images_per_epoch or images.num_images,
        }
    else:
        batch = args.train_batch_size * args.world_size
        if images.num_images < batch:
            raise InputError(
                f"{images.description} has {images.num_images} images, fewer than one batch of {batch};"
                " lower --per_device_train_batch_size."
            )
        canvases = CanvasDataset(images, canvas_size, box_columns=model.box_columns)
        data = {"train_dataset": canvases, "data_collator": CanvasCollator()}
    with refusals_of("transformers' Trainer"):
        trainer = PretrainingTrainer(model, args=args, ledger=ledger, **data)
    for unwanted in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(unwanted)
    per_step = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
    trainer.add_callback(callbacks.ObjectiveHooks(trainer))
    trainer.add_callback(callbacks.MetricsFile(run.metrics))
    trainer.add_callback(callbacks.ProgressBar(per_step))
    trainer.add_callback(callbacks.CollapseWatch(args.collapse_std, args.stop_on_collapse))
    trainer.add_callback(_diagnosis(model, args))
    if args.weight_decay_end is not None:
        trainer.add_callback(callbacks.WeightDecaySchedule(trainer, args.weight_decay_end))
    if args.probe_steps > 0:
        trainer.add_callback(callbacks.OnlineProbe(trainer, args.probe_steps, _online_probe(model, data_args, args)))
    return trainer


def _diagnosis(model: SPForPreTraining, args: PretrainingArguments) -> Diagnosis:
    path = RunFolder(Path(args.output_dir)).diagnosis
    images = args.train_batch_size * args.world_size
    return Diagnosis(path, dict(model.objectives.items()), images, model.encoder.hidden_size, args.collapse_std)


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _check_same_run(checkpoint: Path, model: SPForPreTraining) -> None:
    """A checkpoint is only resumed by the very model that wrote it."""
    with reading_checkpoint(str(checkpoint)):
        written, wanted = SPConfig.from_pretrained(checkpoint), model.config
    pairs = [("encoder", written.encoder_config, wanted.encoder_config)]
    before = {e["name"]: to_entry(e["name"], parse_entry(e)[1]) for e in written.objectives}  # with newer options
    now = {entry["name"]: entry for entry in wanted.objectives}
    if list(before) != list(now):
        pairs.append(("run", {"objectives": list(before)}, {"objectives": list(now)}))
    pairs += [(f"objective {name}", before[name], now[name]) for name in before.keys() & now.keys()]
    names = ("teacher_momentum", "image_mean", "image_std")
    pairs.append(("model", *({n: getattr(c, n) for n in names} for c in (written, wanted))))
    for what, old, new in pairs:
        for name in old.keys() | new.keys():
            if old.get(name) != new.get(name):
                raise InputError(
                    f"{checkpoint} was written with {name} = {old.get(name)} ({what}), and this run asks for"
                    f" {new.get(name)}. Resume with the options in the run's recipe.yaml, or choose a new --output_dir."
                )


def _online_probe(
    model: SPForPreTraining, data_args: DataArguments, args: PretrainingArguments
) -> Callable[[], dict[str, float]]:
    source = DataSource(
        dataset=data_args.dataset,
        dataset_config=data_args.dataset_config,
        dataset_split=data_args.dataset_split,
        dataset_revision=data_args.dataset_revision,
        image_column=data_args.image_column,
        label_column=data_args.label_column,
        validation_dataset=data_args.validation_dataset,
        validation_dataset_config=data_args.validation_dataset_config,
        validation_dataset_split=data_args.validation_dataset_split,
        validation_dataset_revision=data_args.validation_dataset_revision,
        max_images=args.probe_images,
    )
    sizes = [spec.size for spec in model.view_specs.values()]
    return online_probe(model.encoder, source, sizes, args.train_batch_size)


def _named(value: Any) -> Any:
    """What a recipe says of an object that Python code gave; anything else as it is."""
    if isinstance(value, (PreTrainedModel, Encoder)):
        return describe_given(value)
    return str(value) if isinstance(value, (GivenImages, os.PathLike)) else value


def _resolved(
    model: SPForPreTraining,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PretrainingArguments,
    canvas_size: int,
) -> dict[str, Any]:
    """Every option as it came out, in the recipe's form: our own in full, transformers' where not its default."""
    options: dict[str, Any] = {name: _named(value) for name, value in {**vars(model_args), **vars(data_args)}.items()}
    options |= {"objectives": model.resolved_objectives(), "canvas_size": canvas_size}
    defaults = {f.name: _default(f) for f in dataclasses.fields(PretrainingArguments)}
    secret = {name for name in defaults if "token" in name or name in ("resume_from_checkpoint", "local_rank")}
    for name, value in args.to_dict().items():
        if name in defaults and name not in secret and value != defaults[name] and value is not None:
            options[name] = value
    return {name: value for name, value in options.items() if value is not None}

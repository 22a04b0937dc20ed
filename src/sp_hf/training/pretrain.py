"""One pretraining run from arguments to run folder.

Run folder::

    encoder/              the encoder as its stock class: AutoModel.from_pretrained(".../encoder")
    pretraining/          the whole SPForPreTraining with heads, teacher and centres
    checkpoint-N/         what --resume_from_checkpoint last goes on from
    metrics.jsonl         every log line
    recipe.yaml           the resolved options
    environment.json      versions and hardware
    views.png             sample views with their boxes on their images
    curves.png            every loss over the run
    diagnosis.json        warnings of a run that does not learn, if there were any
    skipped_images.json   unreadable images, if there were any
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from transformers import set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..data.canvas_dataset import CanvasCollator, CanvasDataset
from ..data.datasets import LoadedImages, load_images
from ..data.skipped import SkippedLedger
from ..encoders.encoder import Encoder
from ..encoders.loading import loaded_commit, resolve_encoder
from ..hub.failures import PushError
from ..model.configuration import SPConfig
from ..model.modeling import SPForPreTraining
from ..objectives import parse_entry
from ..run.arguments import DataArguments, ModelArguments, PretrainingArguments
from ..run.checkpoints import check_disk, last_checkpoint, remove_leftovers, resolve_checkpoint
from ..run.folder import write_environment, write_recipe
from . import callbacks
from .diagnosis import Diagnosis
from .hub_push import HubPush
from .labels import with_num_labels
from .pictures import draw_curves, draw_views
from .trainer import PretrainingTrainer

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class PretrainingResult:
    """What a run came to.

    Attributes:
        output_dir: the run folder.
        step: optimizer steps done.
        stopped_by: the signal that ended it early, if one did.
        pushed: the finished run's address on the Hub, with ``--push_to_hub``.
        push_error: why it could not be pushed.
    """

    output_dir: Path
    step: int
    stopped_by: int | None
    pushed: str | None = None
    push_error: str | None = None


def pretrain(model_args: ModelArguments, data_args: DataArguments, args: PretrainingArguments) -> PretrainingResult:
    """Run it: load, check, train, export.

    Raises:
        ValueError: the arguments do not fit together (before any training).
        FileExistsError: the run folder holds another run and no resume was asked for.
        FileNotFoundError: no such dataset, encoder or checkpoint.
        DiskFullError: no room for checkpoints.
        PushError: ``--push_to_hub`` without a login or permission (before any training).
    """
    output = Path(args.output_dir)
    token, args.hub_token = args.hub_token, None  # transformers writes its arguments beside every checkpoint
    checkpoint = resolve_checkpoint(args.resume_from_checkpoint, output)
    if checkpoint is None and last_checkpoint(output) is not None:
        raise FileExistsError(
            f"{output} already holds a run ({last_checkpoint(output).name}). Go on with it by"
            " --resume_from_checkpoint last, or choose another --output_dir."
        )
    if data_args.streaming and args.max_steps <= 0:
        raise ValueError("--streaming needs --max_steps: a stream does not know its length.")
    hub = HubPush.from_arguments(args, token)
    images = load_images(
        data_args.dataset,
        config=data_args.dataset_config,
        split=data_args.dataset_split,
        revision=data_args.dataset_revision,
        streaming=data_args.streaming,
        image_column=data_args.image_column,
        label_column=data_args.label_column,
    )
    model_args.objectives = with_num_labels(model_args.objectives, images)
    set_seed(args.seed)
    model = build_model(model_args)
    model_args.encoder_revision = loaded_commit(model_args.encoder, model_args.encoder_revision)
    if checkpoint is not None:
        _check_same_run(checkpoint, model)
    output.mkdir(parents=True, exist_ok=True)
    canvas_size = data_args.canvas_size or default_canvas_size(model)
    trainer = build_trainer(model, images, canvas_size, data_args, args)
    if args.process_index == 0:
        remove_leftovers(output)
        check_disk(output, model)
        write_recipe(output / "recipe.yaml", _resolved(model, model_args, data_args, args, canvas_size))
        write_environment(output / "environment.json", args.world_size)
        draw_views(output / "views.png", images, canvas_size, model.view_specs, args.seed)
        logger.info("%s on %s", model.encoder.describe(), images.description)
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
        draw_curves(output / "curves.png", output / "metrics.jsonl")
    finished = trainer.state.global_step >= trainer.state.max_steps
    if finished:
        trainer.save_final(output)
    result = PretrainingResult(output, trainer.state.global_step, None if finished else stop.signal)
    return result if hub is None else _push_last(hub, result, finished)


def _push_last(hub: HubPush, result: PretrainingResult, finished: bool) -> PretrainingResult:
    """A finished run as it is; of one that was stopped, the checkpoint that is on its way."""
    if not finished:
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
    return max([2 * spec.size for spec in specs] + clean)


def build_model(args: ModelArguments) -> SPForPreTraining:
    """The model that the arguments describe, its encoder fresh or loaded.

    Raises:
        ValueError: see :class:`~sp_hf.model.modeling.SPForPreTraining`.
    """
    token_control = any(parse_entry(entry)[0].needs_token_control for entry in args.objectives)
    encoder: Encoder = resolve_encoder(
        args.encoder,
        revision=args.encoder_revision,
        image_size=args.image_size,
        token_control=token_control,
        initialisation=args.initialisation,
    )
    if args.attn_implementation is not None:
        encoder.set_attention(args.attn_implementation)
    config = SPConfig(
        encoder.config,
        args.objectives,
        image_mean=encoder.image_mean,
        image_std=encoder.image_std,
        teacher_momentum=args.teacher_momentum or None,
    )
    return SPForPreTraining(config, encoder)


def build_trainer(
    model: SPForPreTraining,
    images: LoadedImages,
    canvas_size: int,
    data_args: DataArguments,
    args: PretrainingArguments,
) -> PretrainingTrainer:
    """The Trainer with its data and callbacks."""
    output = Path(args.output_dir)
    ledger = SkippedLedger(output / "skipped_images.json" if args.process_index == 0 else None, data_args.max_skipped)
    if images.streaming:
        args.ignore_data_skip = True  # the stream's saved position skips
        data: dict[str, Any] = {
            "train_dataset": images.dataset,
            "stream": {"images": images, "canvas_size": canvas_size, "shuffle_block": data_args.shuffle_block},
            "images_per_epoch": data_args.images_per_epoch or images.num_images,
        }
    else:
        batch = args.train_batch_size * args.world_size
        if images.num_images < batch:
            raise ValueError(
                f"{images.description} has {images.num_images} images, fewer than one batch of {batch};"
                " lower --per_device_train_batch_size."
            )
        data = {"train_dataset": CanvasDataset(images, canvas_size), "data_collator": CanvasCollator()}
    trainer = PretrainingTrainer(model, args=args, ledger=ledger, **data)
    for unwanted in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(unwanted)
    per_step = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
    trainer.add_callback(callbacks.ObjectiveHooks(trainer))
    trainer.add_callback(callbacks.MetricsFile(output / "metrics.jsonl"))
    trainer.add_callback(callbacks.ProgressBar(per_step))
    trainer.add_callback(callbacks.CollapseWatch(args.collapse_std, args.stop_on_collapse))
    trainer.add_callback(_diagnosis(model, args))
    if args.weight_decay_end is not None:
        trainer.add_callback(callbacks.WeightDecaySchedule(args.weight_decay_end))
    if args.probe_steps > 0:
        trainer.add_callback(callbacks.OnlineProbe(trainer, args.probe_steps, _online_probe(model, data_args, args)))
    return trainer


def _diagnosis(model: SPForPreTraining, args: PretrainingArguments) -> Diagnosis:
    path = Path(args.output_dir) / "diagnosis.json"
    images = args.train_batch_size * args.world_size
    return Diagnosis(path, dict(model.objectives.items()), images, model.encoder.hidden_size, args.collapse_std)


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _check_same_run(checkpoint: Path, model: SPForPreTraining) -> None:
    """A checkpoint is only resumed by the very model that wrote it."""
    written, wanted = SPConfig.from_pretrained(checkpoint), model.config
    pairs = [("encoder", written.encoder_config, wanted.encoder_config)]
    before = {entry["name"]: entry for entry in written.objectives}
    now = {entry["name"]: entry for entry in wanted.objectives}
    if list(before) != list(now):
        pairs.append(("run", {"objectives": list(before)}, {"objectives": list(now)}))
    pairs += [(f"objective {name}", before[name], now[name]) for name in before.keys() & now.keys()]
    names = ("teacher_momentum", "image_mean", "image_std")
    pairs.append(("model", *({n: getattr(c, n) for n in names} for c in (written, wanted))))
    for what, old, new in pairs:
        for name in old.keys() | new.keys():
            if old.get(name) != new.get(name):
                raise ValueError(
                    f"{checkpoint} was written with {name} = {old.get(name)} ({what}), and this run asks for"
                    f" {new.get(name)}. Resume with the options in the run's recipe.yaml, or choose a new --output_dir."
                )


def _online_probe(model: SPForPreTraining, data_args: DataArguments, args: PretrainingArguments) -> Any:
    from ..evaluation.online import online_probe

    return online_probe(model, data_args, args)


def _resolved(
    model: SPForPreTraining,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PretrainingArguments,
    canvas_size: int,
) -> dict[str, Any]:
    """Every option as it came out, in the recipe's form: our own in full, transformers' where not its default."""
    options: dict[str, Any] = {**dataclasses.asdict(model_args), **dataclasses.asdict(data_args)}
    options |= {"objectives": model.resolved_objectives(), "canvas_size": canvas_size}
    defaults = {f.name: _default(f) for f in dataclasses.fields(PretrainingArguments)}
    secret = {name for name in defaults if "token" in name or name in ("resume_from_checkpoint", "local_rank")}
    for name, value in args.to_dict().items():
        if name in defaults and name not in secret and value != defaults[name] and value is not None:
            options[name] = value
    return {name: value for name, value in options.items() if value is not None}

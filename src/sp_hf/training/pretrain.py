"""One pretraining run from arguments to run folder (:mod:`sp_hf.run.folder`)."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from transformers import set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ..boundary import refusals_of
from ..data.canvas_dataset import CanvasCollator, CanvasDataset
from ..data.datasets import LoadedImages, load_images
from ..data.skipped import SkippedLedger
from ..encoders.loading import check_encoder, loaded_commit
from ..errors import InputError
from ..evaluation.online import online_probe
from ..evaluation.source import DataSource
from ..hub.failures import PushError
from ..model.modeling import SPForPreTraining
from ..objectives import box_columns, packages_of
from ..run.alone import alone_in
from ..run.arguments import DataArguments, ModelArguments, PretrainingArguments
from ..run.checkpoints import check_disk, remove_leftovers
from ..run.environment import write_environment
from ..run.folder import RunFolder, check_apart, new_folder
from ..run.former import write_record
from ..run.recipe import write_recipe
from ..run.resume import Start, adopt_recorded, find_start, what_is_left
from . import callbacks
from .building import build_model, default_canvas_size, prepare_student
from .check import check_first_batch, tell_plan
from .diagnosis import Diagnosis
from .hub_push import HubPush
from .image_count import with_num_images
from .labels import with_num_labels
from .pictures import draw_curves, draw_views
from .preflight import check_run
from .processes import in_first_process
from .resolved import resolved_contract, resolved_options
from .result import PretrainingResult
from .trainer import PretrainingTrainer

logger = logging.getLogger(__name__)


def run_pretraining(
    model_args: ModelArguments, data_args: DataArguments, args: PretrainingArguments
) -> PretrainingResult:
    """Run it: load, check, train, export; or the part of this that is left to do.

    Raises:
        InputError: the arguments do not fit together, or not to the run that is to be resumed (before any training).
        DataError: no such dataset, or one without images.
        FolderTakenError: the run folder is a file, or holds another run and no resume was asked for, or another process
            is training in it.
        NotFoundError, CheckpointError, HubError: no such encoder or checkpoint, or it is damaged.
        PackageError: a tracker that is not installed.
        DiskFullError: no room for checkpoints.
        PushError: ``--push_to_hub`` without a login or permission (before any training).
    """
    check_run(args)
    check_apart(args.folder, data_args.dataset, data_args.validation_dataset)
    with new_folder(args.folder, keep=not args.check), contextlib.ExitStack() as stack:
        if not args.check:
            in_first_process(args, lambda: stack.enter_context(alone_in(args.folder)))
        return _run(model_args, data_args, args)


def _run(model_args: ModelArguments, data_args: DataArguments, args: PretrainingArguments) -> PretrainingResult:
    output = args.folder
    token, args.hub_token = args.hub_token, None  # transformers writes its arguments beside every checkpoint
    start = in_first_process(args, lambda: find_start(args.resume, output, args.allow_changes))
    if data_args.streaming and args.max_steps <= 0:
        raise InputError("--streaming needs --max_steps: a stream does not know its length.")
    hub = None if args.check else HubPush.from_arguments(args, token)  # which makes the repository
    check_encoder(model_args.encoder, model_args.encoder_revision)
    images = _load_images(model_args, data_args)
    if images.streaming and args.max_steps <= 0:
        raise InputError(f"{images.description} is a stream, which does not know its length: give --max_steps.")
    model_args.entries = with_num_images(with_num_labels(model_args.entries, images), images)
    adopt_recorded(start, model_args, args, images.streaming)
    set_seed(args.seed)
    model = build_model(model_args)
    prepare_student(model, args)
    model_args.encoder_revision = loaded_commit(model_args.encoder, model_args.encoder_revision)
    canvas_size = data_args.canvas_size or default_canvas_size(model)
    trainer = build_trainer(model, images, canvas_size, data_args, args)
    steps = trainer.total_steps()
    trainer.contract = resolved_contract(model, images, model_args, data_args, args, canvas_size, steps)
    done, trainer.changes = in_first_process(
        args, lambda: what_is_left(start, RunFolder(output), trainer.contract, args.allow_changes)
    )
    if done is None:
        check_disk(output, model)
    if done is None and args.check:
        tell_plan(trainer, images, steps, start)
        loss = check_first_batch(trainer)
        logger.info("the loss of a first batch is %.4g", loss)
        return PretrainingResult(output, start.step, None, finished=False, checked=True)
    if done is not None:
        return _push_last(hub, PretrainingResult(output, done, None, already_done=True))
    options = resolved_options(model, model_args, data_args, args, canvas_size)
    if args.process_index == 0:
        _begin_folder(start, trainer, images, canvas_size, args, options)
    result = _train(trainer, start, hub)
    return _push_last(hub, result)


def _load_images(model_args: ModelArguments, data_args: DataArguments) -> LoadedImages:
    return load_images(
        data_args.dataset,
        config=data_args.dataset_config,
        split=data_args.dataset_split,
        revision=data_args.dataset_revision,
        streaming=data_args.streaming,
        image_column=data_args.image_column,
        label_column=data_args.label_column,
        extra_columns=sorted(set().union(*map(box_columns, model_args.entries))),
    )


def _begin_folder(
    start: Start,
    trainer: PretrainingTrainer,
    images: LoadedImages,
    canvas_size: int,
    args: PretrainingArguments,
    options: dict[str, Any],
) -> None:
    """Tidy up, and say what is about to be done."""
    run, model, step = RunFolder(args.folder), trainer.pretraining, start.step
    start.set_damaged_aside()
    remove_leftovers(run.path)
    write_record(run.recipe, lambda path: write_recipe(path, options), step)
    packages = packages_of(model.config.objectives)
    write_record(
        run.environment, lambda path: write_environment(path, args.world_size, packages, images.num_images), step
    )
    write_record(run.views, lambda path: draw_views(path, images, canvas_size, model.view_specs, args.seed), step)
    logger.info("%s on %s", model.encoder.describe(), images.description)
    logger.info(args.describe_learning_rate())
    if start.checkpoint is not None:
        logger.info("going on from %s", start.checkpoint)


def _train(trainer: PretrainingTrainer, start: Start, hub: HubPush | None) -> PretrainingResult:
    """The steps that are left, if any, and the export."""
    run, stop = RunFolder(trainer.args.folder), callbacks.GracefulStop()
    trainer.add_callback(stop)
    if hub is not None:
        trainer.add_callback(hub)
    trainer.watch_health(start.step)
    if start.checkpoint is not None:
        trainer.restore_own_state(start.checkpoint)
    try:
        trainer.train(resume_from_checkpoint=str(start.checkpoint) if start.checkpoint else None)
        if trainer.is_world_process_zero():
            draw_curves(run.curves, run.metrics)
        finished = trainer.state.global_step >= trainer.state.max_steps
        if finished:
            trainer.save_final(run)
    finally:
        stop.restore()  # not before the results are whole: a signal waits for them
    return PretrainingResult(run.path, trainer.state.global_step, None if finished else stop.signal, finished)


def _push_last(hub: HubPush | None, result: PretrainingResult) -> PretrainingResult:
    """A finished run as it is; of one that was stopped, the checkpoint that is on its way."""
    if hub is None:
        return result
    if not result.finished:
        hub.wait()
        return result
    try:
        return dataclasses.replace(result, pushed=hub.push_finished(result.step).url)
    except PushError as error:
        return dataclasses.replace(result, push_error=str(error))


def build_trainer(
    model: SPForPreTraining,
    images: LoadedImages,
    canvas_size: int,
    data_args: DataArguments,
    args: PretrainingArguments,
) -> PretrainingTrainer:
    """The Trainer with its data and callbacks."""
    run = RunFolder(args.folder)
    total = images.num_images or data_args.images_per_epoch
    is_written = args.process_index == 0 and not args.check
    ledger = SkippedLedger(run.skipped_images if is_written else None, data_args.max_skipped, total)
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
    trainer.add_callback(callbacks.ProgressBar(per_step, trainer.wait))
    if args.stop_on_collapse:
        trainer.add_callback(callbacks.CollapseWatch(args.collapse_std))
    trainer.add_callback(_diagnosis(model, args))
    if args.weight_decay_end is not None:
        trainer.add_callback(callbacks.WeightDecaySchedule(trainer, args.weight_decay_end))
    if args.probe_steps > 0:
        trainer.add_callback(callbacks.OnlineProbe(trainer, args.probe_steps, _online_probe(model, data_args, args)))
    return trainer


def _diagnosis(model: SPForPreTraining, args: PretrainingArguments) -> Diagnosis:
    path = RunFolder(args.folder).diagnosis
    images = args.train_batch_size * args.world_size
    return Diagnosis(path, dict(model.objectives.items()), images, model.encoder.hidden_size, args.collapse_std)


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

"""Checks of a run's arguments before a dataset or an encoder is loaded and a run folder is written."""

from __future__ import annotations

import torch
from transformers import Trainer, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from ..boundary import refusals_of
from ..preconditions import check_folder, require_package
from ..run.arguments import PretrainingArguments

_TRACKER_PACKAGES = {"comet_ml": "comet_ml", "dagshub": "dagshub", "azure_ml": "azureml", "flyte": "flytekit"}


def check_run(args: PretrainingArguments) -> None:
    """Check all of the arguments that does not need the data or the model.

    Raises:
        PackageError: a tracker or an optimizer that is not installed.
        InputError: transformers does not know the tracker, or refuses options of the optimizer or of the schedule.
        FolderTakenError: the run folder's path, or a part of it, is a file.
    """
    check_folder("--output_dir", args.folder)
    trackers = [args.report_to] if isinstance(args.report_to, str) else args.report_to or []
    with refusals_of(f"--report_to {' '.join(trackers)}"):
        get_reporting_integration_callbacks(trackers)
    for tracker in trackers:
        require_package(_TRACKER_PACKAGES.get(tracker, tracker), f"--report_to {tracker}")
    with refusals_of(f"--optim {OptimizerNames(args.optim).value}"):
        Trainer.get_optimizer_cls_and_kwargs(args)
    with refusals_of(f"--lr_scheduler_type {SchedulerType(args.lr_scheduler_type).value}, --lr_scheduler_kwargs"):
        _try_schedule(args)


def _try_schedule(args: PretrainingArguments) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate or 0.0)
    get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=1,
        num_training_steps=10,
        scheduler_specific_kwargs=dict(args.lr_scheduler_kwargs or {}),  # type: ignore[arg-type]  # text no longer
    )

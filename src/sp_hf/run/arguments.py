"""The flags of a pretraining run: encoder and objectives, data, and transformers' own TrainingArguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import HubStrategy
from transformers.training_args import OptimizerNames

from ..errors import InputError
from ..optimisation.arguments import OptimisationArguments
from .cores import default_workers
from .limits import check_options


@dataclass
class ModelArguments:
    """What is trained, and how it is taught."""

    encoder: str = field(
        default="vit-small-16",
        metadata={"help": "Preset (vit-tiny-16, ...), Hub id or local folder of any Hugging Face vision model."},
    )
    encoder_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the encoder on the Hub."}
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Side in pixels that a fresh encoder's position table is made for; default: the preset's, 224."
        },
    )
    initialisation: str | None = field(
        default=None,
        metadata={
            "help": "How a fresh encoder's weights are drawn: xavier (the default; sine-cosine initial positions), or"
            " stock, as transformers does."
        },
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "How the encoder computes attention (eager, sdpa, flash_attention_2, ...); default: transformers'"
            " choice. On a CPU in bf16 eager is the fast one for views of some dozen tokens."
        },
    )
    objectives: list[str] = field(
        default_factory=lambda: ["dino", "spatial_prediction"],
        metadata={"help": "Names, or name=weight; a recipe may give each a mapping with all of its options."},
    )
    position_field: int | None = field(
        default=None,
        metadata={
            "help": "Entries a side of a field of positions of its own, for views with positions: crop; default: the"
            " table of positions is the field. Exported as a table."
        },
    )
    teacher_momentum: list[float] = field(
        default_factory=list,
        metadata={"help": "The EMA teacher's momentum, start and end; default: the objectives'."},
    )

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The objectives' entries, once a recipe and flags have been resolved."""
        return self.objectives  # type: ignore[return-value]  # flags give names, which resolve_run makes whole

    @entries.setter
    def entries(self, entries: list[dict[str, Any]]) -> None:
        self.objectives = entries  # type: ignore[assignment]


@dataclass
class DataArguments:
    """Where the images come from."""

    dataset: str = field(
        default="part-scenes",
        metadata={"help": "Hub id, image folder, parquet/arrow glob, WebDataset tars, or part-scenes (embedded)."},
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration name of a Hub dataset."})
    dataset_split: str | None = field(default=None, metadata={"help": "Split to train on; default: train."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub dataset."})
    image_column: str | None = field(default=None, metadata={"help": "Column with the images; default: found by type."})
    label_column: str | None = field(
        default=None,
        metadata={"help": "Column with the labels, for an objective that learns from them; default: found by type."},
    )
    streaming: bool = field(default=False, metadata={"help": "Read the dataset as a stream (needs --max_steps)."})
    shuffle_block: int = field(default=2048, metadata={"help": "Rows that a stream shuffles at a time."})
    images_per_epoch: int | None = field(
        default=None, metadata={"help": "Length of an epoch of a stream, for schedules counted in epochs."}
    )
    canvas_size: int | None = field(
        default=None,
        metadata={"help": "Side in pixels of the square that images are squashed onto; default: what the views need."},
    )
    max_skipped: float = field(
        default=0.01,
        metadata={
            "help": "Unreadable images after which the run stops with their list: a number, or below 1 their share of"
            " the dataset (of a stream of unknown length: of the images so far, of 1,000 at least)."
        },
    )
    validation_dataset: str | None = field(
        default=None, metadata={"help": "Dataset of the online probes' validation side; default: --dataset."}
    )
    validation_dataset_config: str | None = field(
        default=None, metadata={"help": "Its configuration; default: --dataset_config where it is the same dataset."}
    )
    validation_dataset_split: str | None = field(
        default=None, metadata={"help": "Split of the online probes' validation side; default: validation or test."}
    )
    validation_dataset_revision: str | None = field(
        default=None, metadata={"help": "Its revision; default: --dataset_revision where it is the same dataset."}
    )


@dataclass
class PretrainingArguments(OptimisationArguments):
    """transformers' TrainingArguments with defaults for self-supervised vision, and a few flags of our own."""

    output_dir: str | None = field(
        default=None, metadata={"help": "The run folder; default: runs/ and the recipe's name."}
    )
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Images a device and forward."})
    num_train_epochs: float = field(default=100.0, metadata={"help": "Epochs to train."})
    lr_scheduler_type: str = field(default="cosine_with_min_lr", metadata={"help": "Learning-rate schedule."})
    lr_scheduler_kwargs: dict | str | None = field(
        default_factory=lambda: {"min_lr": 1e-6}, metadata={"help": "Options of the schedule."}
    )
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up steps, or below 1 their share of the run."})
    weight_decay: float = field(default=0.04, metadata={"help": "Weight decay at the start."})
    weight_decay_end: float | None = field(
        default=None, metadata={"help": "Weight decay at the end of its cosine; default: constant."}
    )
    optim: OptimizerNames | str = field(default="adamw_torch_fused", metadata={"help": "The optimizer."})
    max_grad_norm: float = field(default=3.0, metadata={"help": "Gradient clipping; 0: none."})
    logging_steps: float = field(default=20, metadata={"help": "Steps between two log lines."})
    save_steps: float = field(default=0.1, metadata={"help": "Steps between checkpoints, or below 1 their share."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept."})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Drop an epoch's last, smaller batch."})
    dataloader_num_workers: int = field(
        default_factory=default_workers,
        metadata={"help": "Processes that decode images; default: as many as cores, 16 at most."},
    )
    dataloader_pin_memory: bool | None = field(  # type: ignore[assignment]  # None until it is resolved below
        default=None,  # without an accelerator torch warns at every epoch
        metadata={"help": "Batches in pinned memory, true or false; default: where there is an accelerator."},
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay off."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Not needed; off is faster."})
    ddp_broadcast_buffers: bool | None = field(
        default=False, metadata={"help": "Must stay off: each rank gathers its own statistics between steps."}
    )
    report_to: None | str | list[str] = field(default="none", metadata={"help": "Trackers: wandb, tensorboard, ..."})
    probe_steps: int = field(
        default=0,
        metadata={"help": "Run the kNN and where-probe before training and every so many steps; 0: never."},
    )
    probe_images: int = field(default=1000, metadata={"help": "Images a side of the online probes."})
    collapse_std: float = field(
        default=0.02,
        metadata={"help": "Embedding standard deviation (1 is isotropic, 0 is collapse) under which a run warns."},
    )
    hub_license: str | None = field(
        default=None, metadata={"help": "For the model card that is pushed (apache-2.0); default: the base model's."}
    )
    hub_card: bool = field(default=True, metadata={"help": "Push a model card with the finished run."})
    stop_on_collapse: bool = field(default=False, metadata={"help": "Stop, with a checkpoint, instead of warning."})
    resume: str | None = field(
        default=None,
        metadata={
            "help": "auto: start the run, go on with it, finish its export, or find it done: one command for a job that"
            " may be killed at any time. last: its newest whole checkpoint. Or the path of one. Same as"
            " --resume_from_checkpoint."
        },
    )
    check: bool = field(
        default=False,
        metadata={
            "help": "Only check: options, data, model, room on the disk, and one batch through it all; says what the"
            " run would be, and writes nothing."
        },
    )
    allow_changes: bool = field(
        default=False,
        metadata={
            "help": "Resume although options that decide the result differ from those of the checkpoint, or although it"
            " has no manifest."
        },
    )
    max_bad_steps: int = field(
        default=3,
        metadata={
            "help": "Steps in a row whose loss or gradients are not finite, after which the run stops; each is left"
            " out. With --fp16 32 more, as its loss scale is searched for so."
        },
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Not needed, and waits for the device at every step: --max_bad_steps watches."}
    )

    @property
    def folder(self) -> Path:
        """The run folder, once a recipe and flags have been resolved."""
        return Path(self.output_dir or "")

    def __post_init__(self) -> None:
        check_options(vars(self))
        if self.dataloader_pin_memory is None:
            self.dataloader_pin_memory = torch.accelerator.is_available()
        super().__post_init__()
        if self.dataloader_pin_memory and isinstance(
            self.accelerator_config, AcceleratorConfig
        ):  # otherwise accelerate's copies wait, pinned or not
            self.accelerator_config.non_blocking = True
        self._resolve_resume()
        if self.push_to_hub and self.hub_strategy not in (HubStrategy.END, HubStrategy.EVERY_SAVE):
            strategy = HubStrategy(self.hub_strategy).value
            raise InputError(
                f"--hub_strategy {strategy} would push optimizer and random states, which are pickles;"
                " take every_save (encoder and pretraining state at each save) or end (of the finished run only)."
            )

    def _resolve_resume(self) -> None:
        """``--resume`` and transformers' name for it are one option."""
        both = {name for name in (self.resume, self.resume_from_checkpoint) if name not in (None, "")}
        if len(both) > 1:
            raise InputError(
                f"--resume {self.resume} and --resume_from_checkpoint {self.resume_from_checkpoint} say different"
                " things: give one of them."
            )
        self.resume = self.resume_from_checkpoint = next(iter(both), None)

"""Limits of a pretraining run's options, checked before PyTorch is imported or an image is read.

:data:`LIMITS` are ranges of numbers; :data:`WITHOUT_EFFECT` are options of transformers' TrainingArguments that would
change nothing here, or break what this package promises, and are refused rather than ignored.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from ..errors import RecipeError


@dataclasses.dataclass(frozen=True)
class Limit:
    """A range of finite numbers.

    Args:
        low, high: its ends.
        above: ``low`` itself is out.
        below: ``high`` itself is out.
        also: a value outside that means something of its own.
    """

    low: float = 0
    high: float = math.inf
    above: bool = False
    below: bool = False
    also: float | None = None

    def admits(self, value: float) -> bool:
        if self.also is not None and value == self.also:
            return True
        low = value > self.low if self.above else value >= self.low
        return math.isfinite(value) and low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"above {self.low}" if self.above else f"at least {self.low}"
        high = "" if self.high == math.inf else f" and {'below' if self.below else 'at most'} {self.high}"
        return f"a finite number, {low}{high}" + (f", or {self.also}" if self.also is not None else "")


_POSITIVE, _NOT_NEGATIVE, _COUNT, _SHARE = Limit(above=True), Limit(), Limit(1), Limit(0, 1)

LIMITS: dict[str, Limit] = {
    "per_device_train_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "num_train_epochs": Limit(0, 1_000_000, above=True),
    "max_steps": Limit(1, 10**9, also=-1),
    "learning_rate": _POSITIVE,
    "base_learning_rate": _POSITIVE,
    "stochastic_depth": Limit(0, 1, below=True),
    "layer_decay": Limit(0, 1, above=True),
    "patch_embedding_factor": _POSITIVE,
    "weight_decay": _NOT_NEGATIVE,
    "weight_decay_end": _NOT_NEGATIVE,
    "adam_beta1": Limit(0, 1, below=True),
    "adam_beta2": Limit(0, 1, below=True),
    "adam_epsilon": _POSITIVE,
    "max_grad_norm": _NOT_NEGATIVE,
    "warmup_steps": _NOT_NEGATIVE,
    "logging_steps": _POSITIVE,
    "save_steps": _POSITIVE,
    "save_total_limit": _COUNT,
    "torch_empty_cache_steps": _COUNT,
    "dataloader_num_workers": Limit(0, 1024),
    "dataloader_prefetch_factor": _COUNT,
    "ddp_timeout": _COUNT,
    "ddp_bucket_cap_mb": _COUNT,
    "seed": Limit(0, 2**32 - 1),
    "data_seed": Limit(0, 2**32 - 1),
    "probe_steps": _NOT_NEGATIVE,
    "probe_images": Limit(2),
    "collapse_std": _NOT_NEGATIVE,
    "max_bad_steps": _COUNT,
    "image_size": Limit(1, 4096),
    "canvas_size": Limit(8, 4096),
    "shuffle_block": _COUNT,
    "images_per_epoch": _COUNT,
    "max_skipped": _NOT_NEGATIVE,
    "teacher_momentum": _SHARE,
}

_EVALUATION = "a run has no evaluation loop: --probe_steps asks online probes, sp-hf evaluate measures the encoder"
_TEXT = "it is for models of text"
_ONE_LOSS = "it is for models with one loss and labels of theirs; each objective has its own"
_RESUME = "checkpoints here are whole, so that a run is resumed exactly"

WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {  # option: its default, and why nothing else is taken
    "eval_strategy": ("no", _EVALUATION),
    "eval_steps": (None, _EVALUATION),
    "eval_delay": (0, _EVALUATION),
    "eval_on_start": (False, _EVALUATION),
    "eval_accumulation_steps": (None, _EVALUATION),
    "eval_do_concat_batches": (True, _EVALUATION),
    "eval_use_gather_object": (False, _EVALUATION),
    "per_device_eval_batch_size": (8, _EVALUATION),
    "prediction_loss_only": (False, _EVALUATION),
    "batch_eval_metrics": (False, _EVALUATION),
    "include_for_metrics": ([], _EVALUATION),
    "bf16_full_eval": (False, _EVALUATION),
    "fp16_full_eval": (False, _EVALUATION),
    "load_best_model_at_end": (False, _EVALUATION),
    "metric_for_best_model": (None, _EVALUATION),
    "greater_is_better": (None, _EVALUATION),
    "do_eval": (False, _EVALUATION),
    "do_predict": (False, _EVALUATION),
    "do_train": (False, "sp-hf pretrain always trains"),
    "label_smoothing_factor": (0.0, _ONE_LOSS),
    "label_names": (None, _ONE_LOSS),
    "average_tokens_across_devices": (True, _TEXT),
    "neftune_noise_alpha": (None, _TEXT),
    "include_num_input_tokens_seen": ("no", _TEXT),
    "use_cache": (False, _TEXT),
    "use_liger_kernel": (False, _TEXT),
    "liger_kernel_config": (None, _TEXT),
    "enable_jit_checkpoint": (False, "Ctrl-C and SIGTERM always save a checkpoint before they end a run"),
    "train_sampling_strategy": ("random", "images have no length to be grouped by"),
    "length_column_name": ("length", "images have no length to be grouped by"),
    "remove_unused_columns": (False, "it must stay False: the model reads canvases, not dataset columns"),
    "ddp_broadcast_buffers": (False, "it must stay False: ranks gather their own statistics in buffers"),
    "save_only_model": (False, _RESUME),
    "ignore_data_skip": (False, _RESUME),
    "restore_callback_states_from_checkpoint": (False, _RESUME),
    "auto_find_batch_size": (False, "views are drawn by the running number of the sample, which needs one batch size"),
    "deepspeed": (None, "views are drawn outside of its engine; --fsdp shards models that one device cannot hold"),
    "local_rank": (-1, "launchers say it: accelerate launch scripts/pretrain.py ..."),
    "log_on_each_node": (True, "only the first process reports"),
}

_CHOICES: dict[str, tuple[str, ...]] = {
    "save_strategy": ("no", "steps", "epoch"),
    "torch_compile_mode": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
}
_JSON = ("lr_scheduler_kwargs", "fsdp_config", "accelerator_config", "gradient_checkpointing_kwargs")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse values that no run can use.

    Args:
        options: by name; those that are not given may be left out or ``None``.

    Raises:
        RecipeError: names the option, its value and what it may be.
    """
    for name, limit in LIMITS.items():
        given = options.get(name)
        for value in given if isinstance(given, (list, tuple)) else [given]:
            if value is not None:
                _check_number(name, value, limit)
    for name, (default, reason) in WITHOUT_EFFECT.items():
        value = options.get(name)
        if value is not None and _plain(value) not in (default, False if default == "no" else default):
            raise RecipeError(f"--{name} {_plain(value)} has no effect here, leave it out: {reason}")
    for name, choices in _CHOICES.items():
        value = options.get(name)
        if value is not None and _plain(value) not in choices:
            raise RecipeError(f"--{name} is {_plain(value)!r}; it must be one of {', '.join(choices)}")
    for name in _JSON:
        _check_json(name, options.get(name))
    if _plain(options.get("lr_scheduler_type")) == "reduce_lr_on_plateau":
        raise RecipeError(f"--lr_scheduler_type reduce_lr_on_plateau cannot be used: {_EVALUATION}")
    momentum = options.get("teacher_momentum")
    if isinstance(momentum, (list, tuple)) and len(momentum) not in (0, 2):
        raise RecipeError(f"--teacher_momentum takes two numbers, start and end, not {len(momentum)}")


def _check_number(name: str, value: Any, limit: Limit) -> None:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # YAML reads 5e-4 as text
    except (TypeError, ValueError):
        raise RecipeError(f"--{name} is {value!r}; it must be a number") from None
    if not limit.admits(number):
        raise RecipeError(f"--{name} is {value}; it must be {limit}")


def _check_json(name: str, value: Any) -> None:
    """transformers takes such options as text, too: JSON, or the name of a file of it."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            json.loads(value)
        except ValueError as error:
            raise RecipeError(f"--{name} {value} is not JSON ({error})") from None


def _plain(value: Any) -> Any:
    """An enumeration's member as its value."""
    return getattr(value, "value", value)

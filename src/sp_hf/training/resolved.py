"""A run's options as they came out: for its ``recipe.yaml``, and for the contract that its checkpoints hold."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import torch
from transformers import PreTrainedModel

from ..data.datasets import LoadedImages
from ..data.given_images import GivenImages
from ..encoders.encoder import Encoder
from ..encoders.given import describe_given
from ..model.modeling import SPForPreTraining
from ..run.arguments import DataArguments, ModelArguments, PretrainingArguments
from ..run.contract import contract_of

_OF_ONE_START = ("resume", "resume_from_checkpoint", "check", "allow_changes", "local_rank")


def resolved_options(
    model: SPForPreTraining,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PretrainingArguments,
    canvas_size: int,
) -> dict[str, Any]:
    """Every option in the recipe's form: our own in full, transformers' where not its default."""
    options = _our_options(model, model_args, data_args, canvas_size)
    defaults = {f.name: _default(f) for f in dataclasses.fields(PretrainingArguments)}
    defaults["dataloader_pin_memory"] = torch.accelerator.is_available()
    left_out = {name for name in defaults if "token" in name or name in _OF_ONE_START}
    for name, value in args.to_dict().items():
        if name in defaults and name not in left_out and value != defaults[name] and value is not None:
            options[name] = value
    return {name: value for name, value in options.items() if value is not None}


def resolved_contract(
    model: SPForPreTraining,
    images: LoadedImages,
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PretrainingArguments,
    canvas_size: int,
    steps: int,
) -> dict[str, Any]:
    """What a resumed run must keep, see :mod:`sp_hf.run.contract`.

    Args:
        steps: of the whole run.
    """
    options = {**args.to_dict(), **_our_options(model, model_args, data_args, canvas_size)}
    facts = {
        "steps": steps,
        "processes": args.world_size,
        "images": None if images.streaming else images.num_images,
        "encoder_config": model.config.encoder_config,
        "stream_workers": max(1, args.dataloader_num_workers) if images.streaming else None,
        "image_mean": model.config.image_mean,
        "image_std": model.config.image_std,
    }
    return contract_of(options, facts)


def _our_options(
    model: SPForPreTraining, model_args: ModelArguments, data_args: DataArguments, canvas_size: int
) -> dict[str, Any]:
    options = {name: _named(value) for name, value in {**vars(model_args), **vars(data_args)}.items()}
    return options | {"objectives": model.resolved_objectives(), "canvas_size": canvas_size}


def _named(value: Any) -> Any:
    """What a recipe says of an object that Python code gave; anything else as it is."""
    if isinstance(value, (PreTrainedModel, Encoder)):
        return describe_given(value)
    return str(value) if isinstance(value, (GivenImages, os.PathLike)) else value


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default

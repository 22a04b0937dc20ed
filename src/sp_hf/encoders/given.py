"""An encoder from a model that Python code has: a ``PreTrainedModel``, or an ``Encoder``."""

from __future__ import annotations

import copy
from typing import Any

from transformers import PreTrainedModel

from ..errors import InputTypeError
from ..given import GIVEN
from .checkpoint import image_statistics_of, with_token_control
from .encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from .facts import TIMM
from .model_types import facts_of
from .timm_wrapper import image_statistics as timm_image_statistics


def encoder_of(model: Any, *, token_control: bool = False) -> Encoder:
    """An encoder with a copy of a model's weights: the model itself is left as it is.

    Args:
        model: an ``Encoder``, or a headless vision model of transformers. Pixels are normalised as the image processor
            does of the checkpoint that it was loaded from (``model.name_or_path``), else with ImageNet's mean and std.
        token_control: make it an ``SPViTModel`` (ViT and ViT-MAE only).

    Raises:
        TypeError: neither.
        ValueError: a class of model that is not supported, or with a head.
    """
    if isinstance(model, Encoder):
        given, mean, std = model.model, model.image_mean, model.image_std
    elif isinstance(model, PreTrainedModel):
        given, (mean, std) = model, _image_statistics(model)
    else:
        raise InputTypeError(
            "an encoder is a preset, a Hub id, a folder, a headless vision model of transformers or a sp_hf.Encoder,"
            f" not {type(model).__module__}.{type(model).__name__}"
        )
    inner: Any = copy.deepcopy(given)
    if token_control:
        inner = with_token_control(inner)
    elif facts_of(inner.config).init_kwargs.get("add_pooling_layer") is False:  # no objective would train it
        inner.pooler = None
    return Encoder(inner, mean, std)


def describe_given(model: Any) -> str:
    """How a run's recipe names a model that was handed over as an object."""
    inner = model.model if isinstance(model, Encoder) else model
    origin = getattr(inner, "name_or_path", "")
    return f"{GIVEN}{type(inner).__name__}" + (f" from {origin}" if origin else "")


def _image_statistics(model: PreTrainedModel) -> tuple[Any, Any]:
    mean = std = None
    if model.config.model_type == TIMM:
        mean, std = timm_image_statistics(model.config)
    elif model.name_or_path:
        mean, std = image_statistics_of(model.name_or_path, None)
    return mean or IMAGENET_MEAN, std or IMAGENET_STD

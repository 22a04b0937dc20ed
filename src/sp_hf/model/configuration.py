"""Configuration of a pretraining model: one encoder, a list of objectives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from ..errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_OF_ONE_MACHINE = ("_name_or_path", "transformers_version")  # of where it was made, not of what it is


class SPConfig(PretrainedConfig):
    """Everything :class:`~sp_hf.model.modeling.SPForPreTraining` needs to rebuild itself from ``config.json`` alone.

    Args:
        encoder_config: configuration of the vision encoder (any Hugging Face vision model), or its dict.
        objectives: one entry an objective: ``{"name": "dino", "weight": 1.0, ...options}``.
        image_mean: per-channel mean the encoder's pixels in [0, 1] are normalised with.
        image_std: per-channel standard deviation, likewise.
        teacher_momentum: (start, end) of the EMA teacher's cosine momentum schedule. ``None`` takes what the
            objectives ask for, which must then agree.

    Example:
        >>> import sp_hf
        >>> encoder = sp_hf.resolve_encoder("vit-micro-8", image_size=32)
        >>> config = sp_hf.SPConfig(encoder.config, [{"name": "dino", "weight": 1.0}])
        >>> config.encoder_config["model_type"], config.objectives
        ('vit', [{'name': 'dino', 'weight': 1.0}])
    """

    model_type = "sp"

    def __init__(
        self,
        encoder_config: PretrainedConfig | dict[str, Any] | None = None,
        objectives: list[dict[str, Any]] | None = None,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        teacher_momentum: tuple[float, float] | list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(encoder_config, PretrainedConfig):
            fields = json.loads(encoder_config.to_json_string(use_diff=False))
            encoder_config = {name: value for name, value in fields.items() if name not in _OF_ONE_MACHINE}
        self.encoder_config = encoder_config
        self.objectives = [dict(entry) for entry in objectives or []]
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.teacher_momentum = list(teacher_momentum) if teacher_momentum is not None else None
        super().__init__(**kwargs)

    def build_encoder_config(self) -> PretrainedConfig:
        """The encoder's own configuration object.

        Raises:
            ValueError: there is none, or it does not say its ``model_type``.
        """
        if not self.encoder_config or "model_type" not in self.encoder_config:
            raise InputError("SPConfig has no encoder_config with a model_type; pass the encoder's configuration.")
        fields = dict(self.encoder_config)
        return AutoConfig.for_model(fields.pop("model_type"), **fields)

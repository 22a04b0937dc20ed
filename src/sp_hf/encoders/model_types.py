"""From a configuration or a model to its facts: a row of the table, timm's own word, or a look at its shapes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_BACKBONE_MAPPING_NAMES,
    MODEL_FOR_KEYPOINT_MATCHING_MAPPING_NAMES,
    MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
    MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from ..errors import InputError
from .facts import TIMM, Dimensions, ModelFacts, no_renames
from .model_table import FACTS, OTHER_TOWER, REFUSED, TWO_TOWERS
from .observed import observe

OTHER_OUTPUTS = {
    "yields queries for objects, not places": {
        *MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
        *MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES,
    },
    "takes pairs of images": {*MODEL_FOR_KEYPOINT_MATCHING_MAPPING_NAMES},
}
"""What whole systems do whose class is built of a backbone and more; which types are such, transformers says."""


def vision_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The vision tower's configuration of a two-tower model; any other configuration as it is.

    A timm model's comes back as one that takes views of any size, where its architecture can.
    """
    if config.model_type == TIMM:
        from .timm_wrapper import sizeable

        return sizeable(config)
    return config.vision_config if config.model_type in TWO_TOWERS else config


def describe(model: PreTrainedModel) -> tuple[ModelFacts, Dimensions]:
    """How to read a model, and its dimensions.

    Raises:
        ValueError: a model that is no encoder; says why.
    """
    if model.config.model_type == TIMM:
        from .timm_wrapper import timm_facts

        return timm_facts(model)
    facts = facts_of(model.config)
    if model.config.model_type in FACTS:
        return facts, _dimensions_of(model.config, facts)
    return observe(facts, model_class_of(model.config), model.config)


def _dimensions_of(config: PreTrainedConfig, facts: ModelFacts) -> Dimensions:
    conv = facts.feature_map is not None
    return Dimensions(
        hidden_size=config.hidden_sizes[-1] if conv else config.hidden_size,
        num_hidden_layers=sum(config.depths) if conv else config.num_hidden_layers,
        num_prefix_tokens=facts.prefix_tokens + getattr(config, "num_register_tokens", 0),
        patch_size=_pair([side * 2 ** (len(config.depths) - 1) if conv else side for side in _pair(config.patch_size)]),
        image_size=_pair(config.image_size),
        num_channels=config.num_channels,
    )


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def facts_of(config: PreTrainedConfig) -> ModelFacts:
    """What is known of a (single-tower) configuration before its model is built; without a row: its class.

    Raises:
        ValueError: a model type that cannot be an encoder; says why.
    """
    if config.model_type in FACTS:
        return FACTS[config.model_type]
    why = why_refused(config.model_type)
    if why:
        raise InputError(
            f"model type {config.model_type!r} cannot be used as an encoder: {why}; docs/encoders.md lists those"
            " that can"
        )
    name = _class_name(config.model_type)
    is_tower = getattr(transformers, name).base_model_prefix != "vision_model" and name.endswith("VisionModel")
    return ModelFacts(name, foreign=OTHER_TOWER, key_mapping=_without_tower_prefix if is_tower else no_renames)


def _without_tower_prefix(config: PreTrainedConfig) -> dict[str, str]:
    """Checkpoints of both towers keep the one in ``vision_model``."""
    return {r"^vision_model\.": ""}


def why_refused(model_type: str) -> str:
    """Why no model of a type can be an encoder, as far as its class says; empty where it may be one."""
    if model_type in FACTS:
        return ""
    if model_type in REFUSED:
        return REFUSED[model_type]
    name = _class_name(model_type)
    if not name:
        backbone = "; it is there as a backbone alone" if model_type in MODEL_FOR_BACKBONE_MAPPING_NAMES else ""
        return f"AutoModel has no class for it, so that none could load what is exported{backbone}"
    model_class = getattr(transformers, name)
    try:
        parameters = inspect.signature(model_class.forward).parameters
        modalities, main = model_class.input_modalities, model_class.main_input_name
    except ImportError as error:  # transformers puts a class in its place that raises
        return " ".join(str(error).split()).partition(" but ")[0]
    if "text" in modalities and len(modalities) > 1 and not isinstance(modalities, str):
        return f"{name} takes text, too; the vision tower of such a model is an encoder where it is a class of its own"
    if "video" in modalities and "image" not in modalities:
        return f"{name} takes videos"
    for what, types in OTHER_OUTPUTS.items():
        if model_type in types and model_type not in MODEL_FOR_BACKBONE_MAPPING_NAMES:
            return f"{name} {what}"
    if "image" not in modalities and main != "pixel_values":
        return f"{name} is no vision model: its input is {main}"
    if "pixel_values" not in parameters:
        return f"{name} takes {main}, not pixels"
    required = [
        key
        for key, value in parameters.items()
        if value.default is inspect.Parameter.empty and value.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    needs = [key for key in required if key not in ("self", "pixel_values")]
    return f"{name} needs {', '.join(needs)} besides pixels" if needs else ""


def _class_name(model_type: str) -> str:
    """Name of the class that ``AutoModel`` builds; empty: none."""
    name = MODEL_MAPPING_NAMES.get(model_type, "")
    return name if isinstance(name, str) else name[0]


def content_mask_types() -> list[str]:
    """Model types with a row that can put a mask token in place of patches."""
    return [name for name, facts in FACTS.items() if facts.mask_token is not None]


def model_class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that a (single-tower) configuration builds."""
    name = facts_of(config).model_class
    if name == "SPViTModel":
        from .modeling_sp_vit import SPViTModel

        return SPViTModel
    return getattr(transformers, name)

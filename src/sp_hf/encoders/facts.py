"""What differs between Hugging Face's vision models: one row of facts for each model type.

The ten transformers and two conv nets listed in :data:`FACTS` need nothing else to become an
:class:`~.encoder.Encoder`; supporting another type means adding its row (and its row in the tests).  timm's
models, which one type wraps, are described one by one (:mod:`sp_hf.encoders.timm_wrapper`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import InputError


def _no_renames(config: PreTrainedConfig) -> dict[str, str]:
    return {}


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """How to build one model type and read its outputs.

    Args:
        model_class: name of the stock class in ``transformers``.
        patch_projection: dotted path of the layer that turns pixels into patch embeddings.
        positions: dotted path of the table of learned absolute positions; ``None``: it has none.
        prefix_tokens: tokens before the patches, registers not counted (those are read from the config).
        pooled: the image embedding is ``pooler_output`` (where the model makes none, the mean of the patch
            tokens); otherwise it is the first token.
        resizes_on_request: ``forward`` interpolates positions only under ``interpolate_pos_encoding=True``.
        square_positions: interpolation assumes that the table of positions is square.
        final_norm: dotted path of a norm that the stock model keeps for its pooled output. It is applied to the
            tokens here, so that every encoder yields normalised features; ``None``: the tokens already are.
        init_kwargs: arguments of the constructor, to leave out what no objective trains.
        unreached: parameters or modules that a forward without masked tokens never reaches. They are frozen, for
            DistributedDataParallel waits for a gradient from every trainable parameter.
        fixed_size: takes images of its native size alone.
        feature_map: ``last_hidden_state`` is [B, D, rows, columns] (``"NCHW"``) or [B, rows, columns, D]
            (``"NHWC"``) instead of tokens (``None``).
        norm_of_map: ``final_norm`` takes a feature map instead of tokens.
        mask_token: dotted path of the token that ``forward(bool_masked_pos=...)`` puts in place of patches, also where
            the model was built without one; ``None``: it takes no such argument.
        foreign: leading names of checkpoint entries that belong to another tower or task head of this family.
        key_mapping: renames of checkpoint entries (regular expressions), given the configuration.
    """

    model_class: str
    patch_projection: str = "embeddings.patch_embeddings.projection"
    positions: str | None = "embeddings.position_embeddings"
    prefix_tokens: int = 1
    pooled: bool = False
    resizes_on_request: bool = True
    square_positions: bool = True
    final_norm: str | None = None
    init_kwargs: Mapping[str, object] = dataclasses.field(default_factory=dict)
    unreached: tuple[str, ...] = ()
    fixed_size: bool = False
    feature_map: str | None = None
    norm_of_map: bool = False
    mask_token: str | None = None
    foreign: tuple[str, ...] = ()
    key_mapping: Callable[[PreTrainedConfig], dict[str, str]] = _no_renames


@dataclasses.dataclass(frozen=True)
class Dimensions:
    """Sizes of one model.

    Args:
        hidden_size: D, of the last tokens. num_hidden_layers: transformer layers (blocks or stages of a conv net).
        num_prefix_tokens: tokens before the patches, registers included.
        patch_size, image_size: (height, width) in pixels; the latter is the native one.
        num_channels: of an image.
    """

    hidden_size: int
    num_hidden_layers: int
    num_prefix_tokens: int
    patch_size: tuple[int, int]
    image_size: tuple[int, int]
    num_channels: int


def _beit_final_norm(config: PreTrainedConfig) -> dict[str, str]:
    """``BeitForMaskedImageModeling`` keeps the final norm that ``use_mean_pooling`` takes from ``BeitModel``."""
    return {r"^layernorm\.": "pooler.layernorm."} if config.use_mean_pooling else {}


_NO_POOLER = {"add_pooling_layer": False}
_MASK_TOKEN = "embeddings.mask_token"
_MASKABLE_VIT: dict[str, Any] = {"mask_token": _MASK_TOKEN, "foreign": ("pooler", _MASK_TOKEN)}
_MASKABLE: dict[str, Any] = {"mask_token": _MASK_TOKEN, "unreached": (_MASK_TOKEN,)}
_OTHER_TOWER = ("text_model", "text_projection", "visual_projection", "logit_scale", "logit_bias")

FACTS: dict[str, ModelFacts] = {
    "vit": ModelFacts("ViTModel", init_kwargs=_NO_POOLER, unreached=("pooler",), **_MASKABLE_VIT),
    "sp_vit": ModelFacts("SPViTModel", init_kwargs=_NO_POOLER, unreached=("pooler",), **_MASKABLE_VIT),
    # Becomes a ViTModel in Encoder: same parameters, and no random masking to switch off.
    "vit_mae": ModelFacts("ViTMAEModel"),
    # The second prefix token is the distillation token.
    "deit": ModelFacts("DeiTModel", prefix_tokens=2, init_kwargs=_NO_POOLER, unreached=("pooler",), **_MASKABLE_VIT),
    "dinov2": ModelFacts("Dinov2Model", resizes_on_request=False, **_MASKABLE),
    "dinov2_with_registers": ModelFacts("Dinov2WithRegistersModel", resizes_on_request=False, **_MASKABLE),
    # Rotary positions fit any size; in training mode the stock model jitters their scale (config.pos_embed_rescale).
    "dinov3_vit": ModelFacts(
        "DINOv3ViTModel",
        patch_projection="embeddings.patch_embeddings",
        positions=None,
        resizes_on_request=False,
        square_positions=False,
        **_MASKABLE,
    ),
    # Relative position biases are interpolated by the stock model. With config.use_mean_pooling, the only final norm
    # is the pooler's, behind the mean over patches.
    "beit": ModelFacts(
        "BeitModel",
        pooled=True,
        resizes_on_request=False,
        final_norm="pooler.layernorm",
        **_MASKABLE,
        key_mapping=_beit_final_norm,
    ),
    # last_hidden_state comes before post_layernorm; pooler_output is post_layernorm of the class token.
    "clip_vision_model": ModelFacts(
        "CLIPVisionModel",
        patch_projection="embeddings.patch_embedding",
        positions="embeddings.position_embedding.weight",
        final_norm="post_layernorm",
        foreign=_OTHER_TOWER,
    ),
    # No class token: an attention-pooling head makes pooler_output.
    "siglip_vision_model": ModelFacts(
        "SiglipVisionModel",
        patch_projection="embeddings.patch_embedding",
        positions="embeddings.position_embedding.weight",
        prefix_tokens=0,
        pooled=True,
        foreign=_OTHER_TOWER,
    ),
    "ijepa": ModelFacts(
        "IJepaModel",
        prefix_tokens=0,
        pooled=True,
        init_kwargs=_NO_POOLER,
        unreached=("pooler",),
        **_MASKABLE_VIT,
    ),
    # Stands for every architecture; timm_wrapper.timm_facts has the facts of one.
    "timm_wrapper": ModelFacts("TimmWrapperModel"),
    # Conv nets: the last feature map's cells are the patches.
    "convnext": ModelFacts(
        "ConvNextModel",
        patch_projection="embeddings.patch_embeddings",
        positions=None,
        prefix_tokens=0,
        pooled=True,
        resizes_on_request=False,
        square_positions=False,
        final_norm="layernorm",
        feature_map="NCHW",
    ),
    "convnextv2": ModelFacts(
        "ConvNextV2Model",
        patch_projection="embeddings.patch_embeddings",
        positions=None,
        prefix_tokens=0,
        pooled=True,
        resizes_on_request=False,
        square_positions=False,
        final_norm="layernorm",
        feature_map="NCHW",
    ),
}

REFUSED = {
    "swin": "the stock class takes no view whose later stages are smaller than its window",
    "hiera": "the stock class drops units of its own choice and takes no mask",
    "data2vec-vision": "AutoModel builds it without the pooler, which holds its final norm, so an export would differ",
}
"""Why a model type that might be expected here is not."""

TWO_TOWERS = ("clip", "siglip")
"""Model types whose vision tower is the encoder; its configuration is ``config.vision_config``."""

TASK_HEADS = (
    "classifier",
    "cls_classifier",
    "distillation_classifier",
    "decoder",
    "decode_head",
    "auxiliary_head",
    "lm_head",
)
"""Leading names of checkpoint entries that hold the head of a stock ``...For...`` class. Dropped, with a note."""


TIMM = "timm_wrapper"
"""Model type of timm's models; their facts are read off the built model."""


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
        ValueError: a model type without a row, or a timm architecture that does not fit.
    """
    if model.config.model_type == TIMM:
        from .timm_wrapper import timm_facts

        return timm_facts(model)
    facts = facts_of(model.config)
    return facts, _dimensions_of(model.config, facts)


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
    """The row of a (single-tower) configuration.

    Raises:
        ValueError: a model type without a row; lists those that have one.
    """
    if config.model_type not in FACTS:
        supported = ", ".join(sorted([*FACTS, *TWO_TOWERS]))
        why = f" ({REFUSED[config.model_type]})" if config.model_type in REFUSED else ""
        raise InputError(f"model type {config.model_type!r} cannot be used as an encoder{why}; supported: {supported}")
    return FACTS[config.model_type]


def content_mask_types() -> list[str]:
    """Model types that can put a mask token in place of patches."""
    return [name for name, facts in FACTS.items() if facts.mask_token is not None]


def model_class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class that a (single-tower) configuration builds."""
    name = facts_of(config).model_class
    if name == "SPViTModel":
        from .modeling_sp_vit import SPViTModel

        return SPViTModel
    return getattr(transformers, name)


def find(module: nn.Module, path: str) -> nn.Module | nn.Parameter | None:
    """The submodule or parameter at a dotted path, ``None`` where the model was built without it."""
    part: Any = module
    for name in path.split("."):
        part = getattr(part, name, None)
    return part

"""What differs between Hugging Face's vision models: one row of facts for each model type that has one.

A type without a row is looked at instead (:mod:`sp_hf.encoders.observed`); timm's models, which one type wraps, are
described one by one (:mod:`sp_hf.encoders.timm_wrapper`).
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from .facts import ModelFacts


def _beit_final_norm(config: PreTrainedConfig) -> dict[str, str]:
    """``BeitForMaskedImageModeling`` keeps the final norm that ``use_mean_pooling`` takes from ``BeitModel``."""
    return {r"^layernorm\.": "pooler.layernorm."} if config.use_mean_pooling else {}


_NO_POOLER = {"add_pooling_layer": False}
_MASK_TOKEN = "embeddings.mask_token"
_MASKABLE_VIT: dict[str, Any] = {"mask_token": _MASK_TOKEN, "foreign": ("pooler", _MASK_TOKEN)}
_MASKABLE: dict[str, Any] = {"mask_token": _MASK_TOKEN, "unreached": (_MASK_TOKEN,)}
OTHER_TOWER = ("text_model", "text_projection", "visual_projection", "logit_scale", "logit_bias", "temperature")

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
        embedding="pooler",
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
        foreign=OTHER_TOWER,
    ),
    # No class token: an attention-pooling head makes pooler_output.
    "siglip_vision_model": ModelFacts(
        "SiglipVisionModel",
        patch_projection="embeddings.patch_embedding",
        positions="embeddings.position_embedding.weight",
        prefix_tokens=0,
        embedding="pooler",
        foreign=OTHER_TOWER,
    ),
    "ijepa": ModelFacts(
        "IJepaModel",
        prefix_tokens=0,
        embedding="pooler",
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
        embedding="pooler",
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
        embedding="pooler",
        resizes_on_request=False,
        square_positions=False,
        final_norm="layernorm",
        feature_map="NCHW",
    ),
}

TWO_TOWERS = ("aimv2", "altclip", "chinese_clip", "clip", "metaclip_2", "siglip", "siglip2", "tipsv2")
"""Model types whose vision tower is the encoder; its configuration is ``config.vision_config``."""

REFUSED: dict[str, str] = {}
"""Why a model type that might be expected here is not."""

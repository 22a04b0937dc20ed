"""A stock encoder for timm, beside its own files: ``timm.create_model("hf-hub:owner/name", pretrained=True)``.

::

    config.json              the stock configuration, and timm's: architecture, model_args, pretrained_cfg
    timm/config.json         the same for timm alone: timm.create_model("local-dir:folder/timm", pretrained=True)
    timm/model.safetensors   the weights by timm's names

timm's ``VisionTransformer`` is written from ``ViTModel``, ``Dinov2Model`` and ``Dinov2WithRegistersModel``. It has no
pooler and no mask token. Its LayerNorm adds 1e-6, where ``ViTConfig`` has 1e-12 by default (presets have 1e-6), and it
interpolates positions with antialiasing: at the native size it computes the same, at others nearly so.

Source of the formats: timm 1.0, ``timm/models/_hub.py`` and ``vision_transformer.py``.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from ..errors import InputError
from ..whole_file import write_whole
from .configuration_sp_vit import SPViTConfig

FOLDER = "timm"
ARCHITECTURES = {
    "vit": "vit_base_patch16_224",
    "dinov2": "vit_base_patch14_dinov2",
    "dinov2_with_registers": "vit_base_patch14_reg4_dinov2",
}
"""timm's entry point by model type; ``model_args`` say what differs from it."""
EPSILON = 1e-6
"""Of timm's LayerNorm."""
TOLERANCE = 1e-2
"""Largest difference that it may make, relative to the standard deviation of the output."""
_ENDS = {"embeddings.patch_embeddings.projection": "patch_embed.proj", "layernorm": "norm"}
_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_LAYERS = {
    "vit": ("layers", _BLOCK | {"norm1": "layernorm_before", "norm2": "layernorm_after"}),
    "dinov2": ("encoder.layer", _BLOCK),
    "dinov2_with_registers": ("encoder.layer", _BLOCK),
}


def export_timm(folder: str | os.PathLike[str]) -> Path:
    """Make the folder of a stock encoder loadable with timm, and as before with transformers.

    Args:
        folder: with ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    Returns:
        The file of weights.

    Raises:
        InputError: timm's vision transformer cannot be this encoder, or would compute something else.
    """
    folder = Path(folder)
    processor = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    model = AutoModel.from_pretrained(folder).float().eval()
    check_architecture(model.config)
    _check_epsilon(model, folder)
    (folder / FOLDER).mkdir(exist_ok=True)
    file = folder / FOLDER / "model.safetensors"
    save_file(timm_weights(model), file, metadata={"format": "pt"})
    added = timm_config(model.config, processor)
    write_whole(folder / FOLDER / "config.json", _text(added))
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    added["pretrained_cfg"]["hf_hub_filename"] = f"{FOLDER}/{file.name}"  # at the root it is transformers'
    write_whole(folder / "config.json", _text({**fields, **added}))
    return file


def check_architecture(config: PreTrainedConfig) -> None:
    """Refuse what timm's vision transformer cannot be.

    Raises:
        InputError: another model type, or an option that timm has not.
    """
    if isinstance(config, SPViTConfig):
        config = config.to_vit()
    if config.model_type not in ARCHITECTURES:
        raise InputError(
            f"an encoder of type {config.model_type!r} is not written for timm; {', '.join(ARCHITECTURES)} are"
        )
    reasons = [
        f"{name} is {value!r}"
        for name, value, taken in (
            ("hidden_act", config.hidden_act, config.hidden_act == "gelu"),
            ("use_swiglu_ffn", getattr(config, "use_swiglu_ffn", False), not getattr(config, "use_swiglu_ffn", False)),
            ("layer_norm_eps", config.layer_norm_eps, config.layer_norm_eps <= EPSILON),
            ("patch_size", config.patch_size, isinstance(config.patch_size, int)),
        )
        if not taken
    ]
    if reasons:
        raise InputError(f"timm's {ARCHITECTURES[config.model_type]} cannot be this encoder: {'; '.join(reasons)}")


def _check_epsilon(model: PreTrainedModel, folder: Path) -> None:
    """Refuse an encoder whose activations are so small that timm's epsilon would change what it computes."""
    size = model.config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    pixels = torch.randn(2, model.config.num_channels, height, width, generator=torch.Generator().manual_seed(0))
    other = copy.deepcopy(model)
    for module in other.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = EPSILON
    with torch.no_grad():
        expected, outputs = (network(pixels).last_hidden_state for network in (model, other))
    difference = float((outputs - expected).abs().max() / expected.std())
    if not difference <= TOLERANCE:
        raise InputError(
            f"timm's LayerNorm adds {EPSILON:g} and that of {folder} {model.config.layer_norm_eps:g}, which changes its"
            f" output by {difference:.1g} of its standard deviation; the limit is {TOLERANCE:g}"
        )


def timm_config(config: PreTrainedConfig, processor: Mapping[str, Any]) -> dict[str, Any]:
    """What timm reads in ``config.json``.

    Args:
        config: of the stock encoder.
        processor: its ``preprocessor_config.json``.
    """
    registers = getattr(config, "num_register_tokens", 0)
    ratio = config.mlp_ratio if hasattr(config, "mlp_ratio") else config.intermediate_size / config.hidden_size
    arguments: dict[str, Any] = {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.num_channels,
        "embed_dim": config.hidden_size,
        "depth": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "mlp_ratio": ratio,
        "qkv_bias": config.qkv_bias,
        "dynamic_img_size": True,
    }
    if registers:
        arguments |= {"reg_tokens": registers, "no_embed_class": True}
    return {
        "architecture": ARCHITECTURES[config.model_type],
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [config.num_channels, processor["size"]["height"], processor["size"]["width"]],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "squash",  # as the image processor does
            "mean": processor["image_mean"],
            "std": processor["image_std"],
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def timm_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights by timm's names.

    Args:
        model: ``ViTModel``, ``Dinov2Model`` or ``Dinov2WithRegistersModel``.
    """
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    weights = {f"{new}.{kind}": state[f"{old}.{kind}"] for old, new in _ENDS.items() for kind in ("weight", "bias")}
    token = state["embeddings.cls_token"]  # [1, 1, D]
    positions = state["embeddings.position_embeddings"]  # [1, 1 + N, D]
    if "embeddings.register_tokens" in state:  # they have no positions, so neither has the class token there
        weights["reg_token"] = state["embeddings.register_tokens"]
        token, positions = token + positions[:, :1], positions[:, 1:]
    weights |= {"cls_token": token, "pos_embed": positions}
    prefix, names = _LAYERS[model.config.model_type]
    for index in range(model.config.num_hidden_layers):
        layer = f"{prefix}.{index}."
        own = {name.removeprefix(layer): value for name, value in state.items() if name.startswith(layer)}
        weights |= {f"blocks.{index}.{name}": value for name, value in _block(own, names).items()}
    return {name: value.contiguous().clone() for name, value in weights.items()}


def _block(layer: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """A layer's weights; queries, keys and values are one matrix in timm, [3 D, D]."""
    block: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        block |= {f"{new}.{kind}": layer[f"{old}.{kind}"] for new, old in names.items()}
        projections = [layer.get(f"attention.{letter}_proj.{kind}") for letter in "qkv"]
        present = [projection for projection in projections if projection is not None]  # none: qkv_bias is off
        block |= {f"attn.qkv.{kind}": torch.cat(present)} if present else {}
    scales = {f"ls{number}.gamma": f"layer_scale{number}.lambda1" for number in (1, 2)}
    return block | {new: layer[old] for new, old in scales.items() if old in layer}


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"

"""Tiny random models of every supported type, and how to read each stock output without :mod:`sp_hf`.

Native size 32 px, patches of 8: a 4 x 4 grid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

SIZE, PATCH, WIDTH = 32, 8, 32
_COMMON = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIZE,
    "patch_size": PATCH,
}
_CONV = {"hidden_sizes": [16, WIDTH], "depths": [1, 1], "num_stages": 2, "patch_size": 4, "image_size": SIZE}

Read = Callable[[PreTrainedModel, object], tuple[Tensor, Tensor]]


@dataclasses.dataclass(frozen=True)
class Tiny:
    """One model type: configuration, constructor arguments, and the (cls, patches) of a stock output."""

    config_class: str
    model_class: str
    read: Read
    fields: dict[str, object] = dataclasses.field(default_factory=dict)
    base: dict[str, object] = dataclasses.field(default_factory=lambda: _COMMON)
    init_kwargs: dict[str, object] = dataclasses.field(default_factory=dict)
    resize_kwargs: dict[str, object] = dataclasses.field(default_factory=dict)

    def build(self, seed: int = 0, **overrides: object) -> PreTrainedModel:
        config = getattr(transformers, self.config_class)(**{**self.base, **self.fields, **overrides})
        torch.manual_seed(seed)
        model = getattr(transformers, self.model_class)(config, **self.init_kwargs)
        with torch.no_grad():
            for parameter in model.parameters():  # nothing may stay at a neutral initial value
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model.eval()

    def reference(self, model: PreTrainedModel, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """(cls, patches) straight from the stock class."""
        kwargs = dict(self.resize_kwargs)
        if self.model_class == "ViTMAEModel":
            model.config.mask_ratio = 0.0
            patches = normalised.shape[-2] * normalised.shape[-1] // PATCH**2
            kwargs["noise"] = torch.arange(float(patches)).expand(len(normalised), -1)  # sorted: no shuffling
        return self.read(model, model(normalised, **kwargs))


def _after(prefix: int) -> Read:
    return lambda model, out: (out.last_hidden_state[:, 0], out.last_hidden_state[:, prefix:])


def _clip(model: PreTrainedModel, out: object) -> tuple[Tensor, Tensor]:
    return out.pooler_output, model.post_layernorm(out.last_hidden_state[:, 1:])


def _siglip(model: PreTrainedModel, out: object) -> tuple[Tensor, Tensor]:
    return out.pooler_output, out.last_hidden_state


def _mean(model: PreTrainedModel, out: object) -> tuple[Tensor, Tensor]:
    return out.last_hidden_state.mean(1), out.last_hidden_state


def _beit_mean(model: PreTrainedModel, out: object) -> tuple[Tensor, Tensor]:
    norm = model.pooler.layernorm
    return norm(out.last_hidden_state[:, 1:].mean(1)), norm(out.last_hidden_state[:, 1:])


def _convnext(model: PreTrainedModel, out: object) -> tuple[Tensor, Tensor]:
    cells = torch.stack([row for rows in out.last_hidden_state.unbind(2) for row in rows.unbind(2)], dim=1)
    return model.layernorm(cells.mean(1)), model.layernorm(cells)


_ASK = {"interpolate_pos_encoding": True}
_BARE = {"add_pooling_layer": False}
TINY: dict[str, Tiny] = {
    "vit": Tiny("ViTConfig", "ViTModel", _after(1), init_kwargs=_BARE, resize_kwargs=_ASK),
    "deit": Tiny("DeiTConfig", "DeiTModel", _after(2), init_kwargs=_BARE, resize_kwargs=_ASK),
    "dinov2": Tiny("Dinov2Config", "Dinov2Model", _after(1)),
    "dinov2_with_registers": Tiny(
        "Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", _after(4), {"num_register_tokens": 3}
    ),
    "dinov3_vit": Tiny("DINOv3ViTConfig", "DINOv3ViTModel", _after(4), {"num_register_tokens": 3}),
    "beit": Tiny(
        "BeitConfig",
        "BeitModel",
        _after(1),
        {
            "use_mean_pooling": False,
            "use_mask_token": True,
            "use_relative_position_bias": True,
            "use_absolute_position_embeddings": True,
        },
    ),
    "beit_mean": Tiny(
        "BeitConfig", "BeitModel", _beit_mean, {"use_mean_pooling": True, "use_shared_relative_position_bias": True}
    ),
    "clip_vision_model": Tiny("CLIPVisionConfig", "CLIPVisionModel", _clip, resize_kwargs=_ASK),
    "siglip_vision_model": Tiny("SiglipVisionConfig", "SiglipVisionModel", _siglip, resize_kwargs=_ASK),
    "siglip_headless": Tiny(
        "SiglipVisionConfig", "SiglipVisionModel", _mean, {"vision_use_head": False}, resize_kwargs=_ASK
    ),
    "ijepa": Tiny("IJepaConfig", "IJepaModel", _mean, resize_kwargs=_ASK),
    "vit_mae": Tiny("ViTMAEConfig", "ViTMAEModel", _after(1), resize_kwargs=_ASK),
    "convnext": Tiny("ConvNextConfig", "ConvNextModel", _convnext, base=_CONV),
    "convnextv2": Tiny("ConvNextV2Config", "ConvNextV2Model", _convnext, base=_CONV),
}
TRANSFORMERS = [name for name in TINY if not name.startswith("convnext")]

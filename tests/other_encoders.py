"""Tiny models of types without a row in the table, and how to read each stock output by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

Read = Callable[[PreTrainedModel, object], tuple[Tensor, Tensor]]


def _tokens(prefix: int, pooled: bool) -> Read:
    def read(model: PreTrainedModel, out: object) -> tuple[Tensor, Tensor]:
        return out.pooler_output if pooled else out.last_hidden_state[:, 0], out.last_hidden_state[:, prefix:]

    return read


def _cells(out: object) -> Tensor:
    return torch.stack([row for rows in out.last_hidden_state.unbind(2) for row in rows.unbind(2)], dim=1)


def _pooled_map(model: PreTrainedModel, out: object) -> tuple[Tensor, Tensor]:
    return out.pooler_output.reshape(len(out.pooler_output), -1), _cells(out)


def _mean_of_map(model: PreTrainedModel, out: object) -> tuple[Tensor, Tensor]:
    return _cells(out).mean(1), _cells(out)


def _hiera(model: PreTrainedModel, out: object) -> tuple[Tensor, Tensor]:
    return out.pooler_output, model.pooler.layernorm(out.last_hidden_state)


@dataclasses.dataclass(frozen=True)
class Other:
    """A model type: its configuration's fields, its reading, and what is to be seen of it.

    Args:
        read: (cls, patches) of a stock output.
        fields: of a tiny configuration.
        patch: pixels a side of a patch. other_size: of a view that it takes beside its native size; ``None``: it has
            one size alone.
        masks, drops: takes a mask token in place of patches; has a place for stochastic depth.
    """

    read: Read
    fields: dict[str, object]
    patch: int
    other_size: int | None
    masks: bool = False
    drops: bool = True

    def config(self, name: str) -> PreTrainedConfig:
        return AutoConfig.for_model(name, **self.fields)

    def build(self, name: str) -> PreTrainedModel:
        torch.manual_seed(0)
        model = AutoModel.from_config(self.config(name))
        with torch.no_grad():
            for parameter in model.parameters():  # nothing may stay at a neutral initial value
                parameter.add_(0.02 * torch.randn_like(parameter))
        return model.eval()


_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_SWIN = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "patch_size": 4, "window_size": 4, "image_size": 32}
_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
_HIERA = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "image_size": [64, 64]}
_PVT = {**_STAGES, "num_attention_heads": [1, 1, 2, 2], "image_size": 64}
OTHERS: dict[str, Other] = {
    "swin": Other(_tokens(0, True), _SWIN, 8, 64, masks=True),
    "swinv2": Other(_tokens(0, True), _SWIN, 8, 16, masks=True),
    "hiera": Other(_hiera, _HIERA, 32, 128),
    "pvt": Other(_tokens(1, False), _PVT, 32, None),
    "pvt_v2": Other(_mean_of_map, _PVT, 32, 96),
    "resnet": Other(_pooled_map, {**_STAGES, "embedding_size": 8, "layer_type": "basic"}, 32, 64, drops=False),
    "dinov3_convnext": Other(_tokens(1, True), {**_STAGES, "image_size": 64}, 32, 96),
    "aimv2_vision_model": Other(_tokens(0, True), {**_VIT, "image_size": 32}, 8, None, drops=False),
    "data2vec-vision": Other(_tokens(1, False), {**_VIT, "image_size": 32}, 8, 48, masks=True),
    "mobilevit": Other(
        _pooled_map,
        {
            **{"image_size": 64, "neck_hidden_sizes": [8] * 6 + [16], "hidden_sizes": [8] * 3},
            **{"num_attention_heads": 2, "initializer_range": 0.3},  # 0.02 so narrow: gradients of 1e-11 at the stem
        },
        32,
        96,
        drops=False,
    ),
    "focalnet": Other(
        _tokens(0, True), {"embed_dim": 16, "depths": [1, 1], "image_size": 32, "hidden_sizes": [16, 32]}, 8, 64, True
    ),
}

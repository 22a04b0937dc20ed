"""How to build and read one model: what is known of it, in two records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from torch import nn
from transformers import PreTrainedConfig

if TYPE_CHECKING:
    from .shapes import Shapes

Embedding = Literal["class token", "pooler", "mean of patches"]


def no_renames(config: PreTrainedConfig) -> dict[str, str]:
    return {}


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """How to build one model type and read its outputs.

    Args:
        model_class: name of the stock class in ``transformers``.
        patch_projection: dotted path of the layer that turns pixels into patch embeddings.
        positions: dotted path of the table of learned absolute positions; ``None``: it has none.
        prefix_tokens: tokens before the patches, registers not counted (those are read from the config).
        embedding: what the image embedding is: the first token, ``pooler_output`` (where the model makes none, the mean
            of the patches), or the mean of the patches.
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
        mask_factor: cells of the grid of masks that one patch covers, a side; hierarchical models mask the cells of
            their first stage.
        shapes: what tells the sizes of views that it takes, where no rule does.
        foreign: leading names of checkpoint entries that belong to another tower or task head of this family.
        key_mapping: renames of checkpoint entries (regular expressions), given the configuration.
    """

    model_class: str
    patch_projection: str = "embeddings.patch_embeddings.projection"
    positions: str | None = "embeddings.position_embeddings"
    prefix_tokens: int = 1
    embedding: Embedding = "class token"
    resizes_on_request: bool = True
    square_positions: bool = True
    final_norm: str | None = None
    init_kwargs: Mapping[str, object] = dataclasses.field(default_factory=dict)
    unreached: tuple[str, ...] = ()
    fixed_size: bool = False
    feature_map: str | None = None
    norm_of_map: bool = False
    mask_token: str | None = None
    mask_factor: int = 1
    shapes: Shapes | None = None
    foreign: tuple[str, ...] = ()
    key_mapping: Callable[[PreTrainedConfig], dict[str, str]] = no_renames


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


def find(module: nn.Module, path: str) -> nn.Module | nn.Parameter | None:
    """The submodule or parameter at a dotted path, ``None`` where the model was built without it."""
    part: Any = module
    for name in path.split("."):
        part = getattr(part, name, None)
    return part

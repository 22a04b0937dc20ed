"""A vision model of transformers or timm, checked and described: its sizes, and which views it takes.

Letters: D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import InputError
from .checkpoint import plain_vit
from .facts import find
from .model_types import describe, facts_of, model_class_of
from .modeling_sp_vit import SPViTModel
from .shapes import keep_steady
from .sizes import grid_of, nearest_size, size_kwargs
from .token_order import check_order

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DescribedModel(nn.Module):
    """The model inside an :class:`~sp_hf.encoders.encoder.Encoder`, whose arguments, attributes and errors it has."""

    def __init__(
        self,
        model: PreTrainedModel,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if model.config.model_type == "vit_mae":
            model = plain_vit(model)
        if not isinstance(model, model_class_of(model.config)):
            raise InputError(f"expected a headless {facts_of(model.config).model_class}, got {type(model).__name__}")
        self.facts, self.dimensions = describe(model)
        self.model = model
        self.image_mean = tuple(float(value) for value in image_mean)
        self.image_std = tuple(float(value) for value in image_std)
        _ = self.patch_size  # raises where patches are not square
        channels = {self.dimensions.num_channels, len(self.image_mean), len(self.image_std)}
        if channels != {3}:
            raise InputError(f"images have 3 channels; the model, its mean and its std have {sorted(channels)}")
        for name in self.facts.unreached:
            parameter = find(model, name)
            if parameter is not None:
                parameter.requires_grad_(False)
        if self.facts.shapes is not None:
            keep_steady(model, self.facts.shapes.unsteady())
            if self.facts.feature_map is None:
                check_order(model, self.facts, self.dimensions)

    @property
    def config(self) -> PreTrainedConfig:
        return self.model.config

    @property
    def supports_token_control(self) -> bool:
        return isinstance(self.model, SPViTModel)

    @property
    def supports_content_mask(self) -> bool:
        return self.facts.mask_token is not None

    @property
    def hidden_size(self) -> int:
        return self.dimensions.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        return self.dimensions.num_hidden_layers

    @property
    def num_prefix_tokens(self) -> int:
        return self.dimensions.num_prefix_tokens

    @property
    def patch_size(self) -> int:
        height, width = self.dimensions.patch_size
        if height != width:
            raise InputError(f"patches of {height} x {width} pixels: only square patches are supported")
        return height

    def patches_of(self, size: int) -> tuple[int, int]:
        """(rows, columns) of patch tokens of a square view of ``size`` pixels a side.

        Raises:
            ValueError: the patch size does not divide ``size``, or the encoder takes no views of this size.
        """
        grid = grid_of(self.dimensions, size, size)
        self.size_kwargs(size, size)
        return grid

    def nearest_size(self, size: float) -> int:
        """Pixels a side of the views that the encoder takes, as near to ``size`` as can be."""
        return nearest_size(self.facts, self.dimensions, size)

    def patch_projection(self) -> Any:
        """The layer that turns pixels into patch embeddings (MoCo v3 freezes it)."""
        return self.model.get_submodule(self.facts.patch_projection)

    @property
    def image_side(self) -> int:
        """Shorter side, in pixels, of the images that the configuration is made for."""
        return min(self.dimensions.image_size)

    def size_kwargs(self, height: int, width: int) -> dict[str, bool]:
        """Arguments of the model's ``forward`` for views of this size: interpolated positions, where it must be asked.

        Raises:
            ValueError: it cannot take this size; says which it takes.
        """
        return size_kwargs(self.facts, self.dimensions, self._name(), height, width)

    @property
    def layer_classes(self) -> set[str]:
        """Class names of the repeated layers, such as ``{"ViTLayer"}``: what FSDP shards one by one."""
        lists = (module for module in self.model.modules() if isinstance(module, nn.ModuleList))
        repeated = {type(layer).__name__ for layers in lists for layer in layers}
        return repeated & set(getattr(self.model, "_no_split_modules", None) or ())

    def describe(self) -> str:
        """One line: class, parameters, patch, size."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        return (
            f"{self._name()}, {parameters:.1f} M parameters, {self.num_hidden_layers} layers, "
            f"{self.hidden_size} wide, patches of {self.patch_size} px"
        )

    def _name(self) -> str:
        """Class of the model; timm's is one for all, so its architecture."""
        return getattr(self.config, "architecture", type(self.model).__name__)

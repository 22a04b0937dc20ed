"""One face for every Hugging Face vision model: an image embedding, patch tokens, and their grid.

Letters: B images, N patch tokens (n of them visible), D hidden size, H x W pixels.

The differences between models are rows of a table (:mod:`sp_hf.encoders.model_table`), or are seen in what a model
makes of a view (:mod:`sp_hf.encoders.observed`); this module is led by them.  What is yielded, per kind of model:

- ``cls``: the class token after the final norm.  SigLIP has none: its attention-pooling head's output.  BEiT fine-tuned
  with mean pooling: its normalised mean of patch tokens.  I-JEPA, conv nets and hierarchical models: their own pooled
  output, else the mean of patch tokens (``facts.embedding`` says which).
- ``patches``: patch tokens, row by row, after the final norm; registers and distillation tokens are left out.
  CLIP, BEiT with mean pooling and ConvNeXt apply their final norm to the pooled output alone; here the same norm is
  applied to the patch tokens too.  Of a model with stages: the cells of the last.

What timm's models yield: :mod:`sp_hf.encoders.timm_wrapper`.

ViT-MAE becomes the ``ViTModel`` that its encoder is (same parameters, no random masking); its fixed sine-cosine
positions become the initial value of learned ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..errors import InputError
from .checkpoint import load_verified, with_token_control
from .described import IMAGENET_MEAN, IMAGENET_STD, DescribedModel
from .export import save_stock
from .facts import find
from .initialisation import initialise, position_table, recorded_initialisation, starts_at_sincos
from .model_types import content_mask_types, facts_of, model_class_of, vision_config
from .modeling_sp_vit import SPViTModel
from .reading import read
from .sizes import grid_of


class Encoding(NamedTuple):
    """Features of a batch. Leading dimensions may be split ([B, V, ...]) by the caller.

    Example:
        >>> import torch, sp_hf
        >>> encoding = sp_hf.resolve_encoder("vit-micro-8", image_size=32)(torch.rand(2, 3, 32, 32))
        >>> isinstance(encoding, sp_hf.Encoding), encoding.cls.shape, encoding.patches.shape, encoding.grid
        (True, torch.Size([2, 128]), torch.Size([2, 16, 128]), (4, 4))
    """

    cls: Tensor  # [..., D]
    patches: Tensor  # [..., N, D], row-major; with ``visible``, [..., n, D] in the order asked for
    grid: tuple[int, int]  # (rows, columns) of the whole view, N = rows * columns


class Encoder(DescribedModel):
    """A Hugging Face vision model as an encoder of views.

    Args:
        model: an instance of a supported class (``ViTMAEModel`` is converted, the others are used as they are).
        image_mean, image_std: per channel, for pixels in [0, 1].

    Attributes:
        model, config: the model inside, and its configuration.
        hidden_size: D. patch_size: pixels a side. num_hidden_layers: transformer layers (blocks of a conv net).
        num_prefix_tokens: tokens before the patches in ``last_hidden_state``.
        supports_content_mask: can put a mask token in place of patches.
        supports_token_control: can hide tokens and move positions (``SPViTModel``).
        image_mean, image_std: tuples of floats.

    Raises:
        ValueError: unsupported model type, patches that are not square, or channels other than 3.

    Example:
        >>> import torch, sp_hf
        >>> from transformers import ViTConfig, ViTModel
        >>> sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
        >>> encoder = sp_hf.Encoder(ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8), add_pooling_layer=False))
        >>> encoder.patches_of(48), encoder(torch.rand(1, 3, 48, 48)).cls.shape  # pixels in [0, 1], of any size
        ((6, 6), torch.Size([1, 24]))
    """

    @classmethod
    def from_config(
        cls,
        config: PreTrainedConfig,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
    ) -> Encoder:
        """A freshly initialised encoder; its weights depend on torch's global seed alone.

        The scheme is the one that the configuration records (:mod:`sp_hf.encoders.initialisation`), else the stock one.
        """
        config = vision_config(config)
        model = model_class_of(config)(config, **facts_of(config).init_kwargs)
        initialise(model, recorded_initialisation(config))
        if isinstance(model, SPViTModel) and config.position_field is not None:
            model.add_position_field(config.position_field)  # of the table as it now is
        return cls(model, image_mean, image_std)

    @classmethod
    def load(cls, name_or_path: str | Path, revision: str | None = None, token_control: bool = False) -> Encoder:
        """An encoder with the weights of a Hub repository or folder: all of them, or an error.

        See :func:`sp_hf.encoders.checkpoint.load_verified`.

        Args:
            name_or_path: ``owner/name`` on the Hub, or a folder.
            revision: branch, tag or commit of the repository.
            token_control: load a ViT's weights (also ViT-MAE's) as ``SPViTModel``.
        """
        model, image_mean, image_std = load_verified(name_or_path, revision)
        if token_control:
            model = with_token_control(model)
        return cls(model, image_mean or IMAGENET_MEAN, image_std or IMAGENET_STD)

    def train_mask_token(self) -> None:
        """Make ready for masked patches: the model's own mask token takes gradient from here on.

        A model that was built without gets one, at zero as its class makes it; the exported one is without again.

        Raises:
            ValueError: a model that takes no mask.
        """
        if self.facts.mask_token is None:
            raise InputError(
                f"{self._name()} cannot put a mask token in place of patches; use one of"
                f" {', '.join(content_mask_types())}, or another that docs/encoders.md says to take them"
            )
        owner, _, name = self.facts.mask_token.rpartition(".")
        module = self.model.get_submodule(owner)
        if getattr(module, name) is None:
            like = self.patch_projection().weight
            setattr(module, name, nn.Parameter(like.new_zeros(1, 1, len(like))))  # as wide as the layer's output
        getattr(module, name).requires_grad_(True)

    def add_position_field(self, side: int) -> None:
        """A field of ``side`` x ``side`` positions for views of any size; see ``SPViTModel.add_position_field``.

        Raises:
            ValueError: no ``SPViTModel``, or a side below 1.
        """
        if not isinstance(self.model, SPViTModel):
            raise InputError(f"{self._name()} has no position field; use a ViT, and views with positions: crop")
        self.model.add_position_field(side)

    def fix_sincos_positions(self) -> bool:
        """Take the positions out of training, if they are those a fresh encoder starts from: the table, and the field
        of its own size where there is one.

        Those that have been learned, or were drawn at random (``stock``), stay learnable: to stop them would change
        what the encoder's checkpoint was.

        Returns:
            Whether the positions are fixed.
        """
        table = position_table(self.model) if starts_at_sincos(self.model) else None
        fixed = table is not None
        if table is not None:
            table.requires_grad_(False)
        if isinstance(self.model, SPViTModel) and self.model.position_field is not None:
            fixed = fixed and self.model.field_is_the_table()
            if fixed:
                self.model.position_field.requires_grad_(False)
        return fixed

    def set_attention(self, implementation: str) -> None:
        """Choose how attention is computed; the same function up to rounding.

        Args:
            implementation: a name that transformers knows (``"eager"``, ``"sdpa"``, ``"flash_attention_2"``, ...).

        Raises:
            ValueError: no such implementation, one that is not installed, or one that the model does not support.
        """
        try:
            self.model.set_attn_implementation(implementation)
        except (ValueError, ImportError) as error:
            raise InputError(f"attention {implementation!r} of {type(self.model).__name__}: {error}") from error

    def forward(
        self,
        pixels: Tensor,
        *,
        visible: Tensor | None = None,
        dropped: Tensor | None = None,
        position_token: Tensor | None = None,
        context: Tensor | None = None,
        position_boxes: Tensor | None = None,
        position_flips: Tensor | None = None,
        masked: Tensor | None = None,
    ) -> Encoding:
        """Encode views.

        Args:
            pixels: [B, 3, H, W] in [0, 1]; any size that the patch size divides (positions are interpolated).
            visible, dropped, position_token, context, position_boxes, position_flips: token control; see
                :meth:`sp_hf.encoders.modeling_sp_vit.SPViTModel.forward`. Only where ``supports_token_control``.
            masked: bool [B, N], patches whose content the mask token replaces. Only where ``supports_content_mask``,
                and after :meth:`train_mask_token`.

        Raises:
            ValueError: indivisible size; token control or masks of a model that has none.
        """
        grid = grid_of(self.dimensions, *pixels.shape[-2:])
        given = {
            "visible": visible,
            "dropped": dropped,
            "position_token": position_token,
            "context": context,
            "position_boxes": position_boxes,
            "position_flips": position_flips,
        }
        control = {name: value for name, value in given.items() if value is not None}
        if control and not self.supports_token_control:
            raise InputError(
                f"{type(self.model).__name__} cannot take {', '.join(control)}: "
                "load the encoder with token_control=True (ViT and ViT-MAE weights only)"
            )
        if masked is not None:
            if self.facts.mask_token is None or find(self.model, self.facts.mask_token) is None:
                raise InputError(f"{type(self.model).__name__} has no mask token: call train_mask_token() first")
            control["bool_masked_pos"] = self._mask_cells(masked, grid)
        outputs = self.model(self.normalise(pixels), **self.size_kwargs(*pixels.shape[-2:]), **control)
        return Encoding(*read(self.model, outputs, self.facts, self.num_prefix_tokens), grid)

    def _mask_cells(self, masked: Tensor, grid: tuple[int, int]) -> Tensor:
        """Masked patches [B, N] as cells of the grid that the model masks, [B, N * mask_factor^2]."""
        factor = self.facts.mask_factor
        cells = masked.unflatten(1, grid).repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        return cells.flatten(1)

    def normalise(self, pixels: Tensor) -> Tensor:
        """``(pixels - image_mean) / image_std`` per channel, in the model's dtype. [B, 3, H, W]"""
        channels = zip(pixels.float().unbind(1), self.image_mean, self.image_std, strict=True)
        normalised = torch.stack([(channel - mean) / std for channel, mean, std in channels], dim=1)
        return normalised.to(self.patch_projection().weight.dtype)

    def gradient_checkpointing_enable(self, **kwargs: object) -> None:
        """Trade compute for memory, as ``PreTrainedModel.gradient_checkpointing_enable``."""
        self.model.gradient_checkpointing_enable(**kwargs)

    def gradient_checkpointing_disable(self) -> None:
        self.model.gradient_checkpointing_disable()

    def save_stock(
        self,
        directory: str | Path,
        image_size: int | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write the stock class and its image processor; see :func:`sp_hf.encoders.export.save_stock`.

        Args:
            directory: made if need be.
            image_size: pixels a side that the image processor resizes to; ``None``: the configuration's.
            state_dict: the gathered weights of ``self.model``, where its own are sharded.
        """
        save_stock(
            self.model, self.image_mean, self.image_std, directory, image_size or self.dimensions.image_size, state_dict
        )

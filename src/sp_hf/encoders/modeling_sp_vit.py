"""ViT whose positions can follow the crop, be dropped for chosen tokens, or cover a visible subset.

Letters: B images, N patch tokens of a whole view, n visible ones, D hidden size.

``SPViTModel`` has the parameters of ``ViTModel`` under the same names and, called without the extra arguments,
runs ``ViTModel.forward`` itself; its weights therefore export to the stock class unchanged.  The extra arguments are
what masked and positional pretext tasks need: MAE's visible subset (He et al. 2022, 2111.06377, section 3), DropPos's
dropped positions (Wang et al. 2023, 2309.03576, section 3.1), MP3's context, the tokens that keys and values come from
(Zhai et al. 2022, 2207.07611, section 3), and positions cut from the image's position field
(:mod:`sp_hf.encoders.position_field`).  The class token keeps its own positional embedding throughout.

The field is the table of positions, or, with ``config.position_field``, a parameter of its own size, which then gives
every view its positions, and which export lays over the table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, ViTModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..errors import InputError
from .configuration_sp_vit import SPViTConfig
from .position_field import lay_over_image, sample_position_field


class SPViTModel(ViTModel):
    """``ViTModel`` with control over tokens and positions.

    Unlike ``ViTModel`` it has no pooler unless asked for one: nothing here trains it.

    Example:
        >>> import torch, sp_hf
        >>> sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
        >>> model = sp_hf.SPViTModel(sp_hf.SPViTConfig(**sizes, image_size=32, patch_size=8))
        >>> tokens = model(torch.rand(1, 3, 32, 32), visible=torch.tensor([[0, 5, 10]])).last_hidden_state
        >>> tokens.shape  # the class token and three of sixteen patches
        torch.Size([1, 4, 24])
    """

    config: SPViTConfig
    config_class = SPViTConfig

    def __init__(self, config: SPViTConfig, add_pooling_layer: bool = False, use_mask_token: bool = False) -> None:
        super().__init__(config, add_pooling_layer=add_pooling_layer, use_mask_token=use_mask_token)
        self.position_field: nn.Parameter | None = None
        if config.position_field is not None:
            self.add_position_field(config.position_field)

    def add_position_field(self, side: int) -> None:
        """Give it a field of positions of its own, [1, side * side, D], that begins as the table, resampled.

        Raises:
            ValueError: a side below 1.
        """
        if side < 1:
            raise InputError(f"position_field is {side}; it must be at least 1 entry a side")
        self.config.position_field = side
        table = self._table().detach()  # [h, w, D]
        if table.is_meta:  # weights come later
            field = table.new_empty(1, side * side, table.shape[-1])
        else:
            field = lay_over_image(table, (side, side)).clone()
        self.position_field = nn.Parameter(field)

    def field_is_the_table(self) -> bool:
        """Whether the field of positions is still the table, resampled, as it began (up to rounding)."""
        field = self.position_field
        side = self.config.position_field
        if field is None or side is None:
            return True
        if field.is_meta:
            return False
        with torch.no_grad():
            begun = lay_over_image(self._table(), (side, side))
        return torch.allclose(field, begun, rtol=0, atol=8 * torch.finfo(field.dtype).eps)

    def _table(self) -> Tensor:
        """The patches' part of the table: [h, w, D]."""
        sides = zip(self.embeddings.image_size, self.embeddings.patch_embeddings.patch_size, strict=True)
        rows, columns = (image // patch for image, patch in sides)
        return self.embeddings.position_embeddings[0, 1:].unflatten(0, (rows, columns))

    def _field(self) -> Tensor:
        """What positions that follow the crop are sampled from: [h, w, D]."""
        if self.position_field is None:
            return self._table()
        side = self.config.position_field
        return self.position_field[0].unflatten(0, (side, side))

    def forward(
        self,
        pixel_values: Tensor,
        *,
        visible: Tensor | None = None,
        dropped: Tensor | None = None,
        position_token: Tensor | None = None,
        context: Tensor | None = None,
        position_boxes: Tensor | None = None,
        position_flips: Tensor | None = None,
        bool_masked_pos: Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        **kwargs: object,
    ) -> BaseModelOutputWithPooling:
        """Encode normalised pixels.

        Args:
            pixel_values: [B, 3, H, W].
            visible: int64 [B, n], patches that enter the encoder, in this order. ``None``: all N.
            dropped: bool [B, N] over all patches; ``True`` replaces the patch's position by ``position_token``.
            position_token: [D]; given exactly when ``dropped`` is.
            context: bool [B, N] over all patches: in every layer, keys and values come from these patches and the class
                token alone. ``None``: all.
            position_boxes: [B, 4] (cx, cy, w, h), normalised; positions are sampled from the image's position
                field at these boxes instead of laid over the view.
            position_flips: bool [B], views mirrored left-right; only with ``position_boxes``.
            bool_masked_pos: bool [B, N], as in ``ViTModel``: patches whose embedding is the mask token's.
            interpolate_pos_encoding: as in ``ViTModel``. With any of the above, positions are always
                interpolated to the view's size where ``position_boxes`` does not set them.
            **kwargs: passed to ``ViTModel.forward``; not allowed beside any of the token arguments.

        Returns:
            ``last_hidden_state`` [B, 1 + n, D], the class token first.

        Raises:
            ValueError: arguments that do not belong together.
        """
        control = (visible, dropped, position_token, context, position_boxes, position_flips)
        if self.position_field is None and all(argument is None for argument in control):
            masked = {} if bool_masked_pos is None else {"bool_masked_pos": bool_masked_pos}
            return super().forward(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **masked, **kwargs)
        self._check_control(dropped, position_token, position_boxes, position_flips, kwargs)
        patches = self._patches(pixel_values, bool_masked_pos)  # [B, N, D]
        height, width = pixel_values.shape[-2:]
        positions = self._positions(patches, height, width, position_boxes, position_flips)
        if dropped is not None:
            token = position_token.to(positions.dtype)  # type: ignore[union-attr]  # given where dropped is: checked
            positions = torch.where(dropped[..., None], token, positions)
        hidden = self._with_class_token(_gather(patches + positions, visible))  # [B, 1 + n, D]
        attended = None
        if context is not None:
            attended = self._attended(hidden, context if visible is None else context.gather(1, visible))
        for layer in self.layers:
            hidden = layer(hidden, attended)
        hidden = self.layernorm(hidden)
        pooled = None if self.pooler is None else self.pooler(hidden)
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)

    def _patches(self, pixel_values: Tensor, masked: Tensor | None) -> Tensor:
        """Embedded patches [B, N, D], without positions, the mask token where ``masked`` [B, N]."""
        patches = self.embeddings.patch_embeddings(pixel_values.to(self.embeddings.cls_token.dtype))
        if masked is None:
            return patches
        if self.embeddings.mask_token is None:
            raise InputError("bool_masked_pos, but the model was built without a mask token: use_mask_token=True")
        return torch.where(masked[..., None], self.embeddings.mask_token.to(patches.dtype), patches)

    def _with_class_token(self, patches: Tensor) -> Tensor:
        cls = self.embeddings.cls_token + self.embeddings.position_embeddings[:, :1]
        return self.embeddings.dropout(torch.cat([cls.expand(len(patches), -1, -1), patches], dim=1))

    def _attended(self, hidden: Tensor, context: Tensor) -> Any:
        """The mask that lets every token attend to the class token and to ``context`` [B, n], as attention takes it."""
        allowed = torch.cat([torch.ones_like(context[:, :1]), context], dim=1)  # [B, 1 + n]
        return create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=allowed)

    def _positions(
        self, patches: Tensor, height: int, width: int, boxes: Tensor | None, flips: Tensor | None
    ) -> Tensor:
        """Positional embeddings of a view's patches: [B, N, D] at the boxes, or [1, N, D] laid over the view."""
        patch_height, patch_width = self.embeddings.patch_embeddings.patch_size
        grid = (height // patch_height, width // patch_width)
        if boxes is not None:
            return sample_position_field(self._field(), boxes, grid, flips)
        table: Tensor = self.embeddings.position_embeddings  # [1, 1 + h * w, D]
        if self.position_field is not None:
            return lay_over_image(self._field(), grid)
        if (height, width) != tuple(self.embeddings.image_size):
            tokens = torch.cat([patches[:, :1], patches], dim=1)  # only its shape is read
            table = self.embeddings.interpolate_pos_encoding(tokens, height, width)
        return table[:, 1:]

    @staticmethod
    def _check_control(
        dropped: Tensor | None,
        position_token: Tensor | None,
        boxes: Tensor | None,
        flips: Tensor | None,
        kwargs: dict[str, object],
    ) -> None:
        if (dropped is None) != (position_token is None):
            raise InputError("dropped and position_token go together: one says which positions, the other what instead")
        if flips is not None and boxes is None:
            raise InputError("position_flips without position_boxes: positions laid over the view are never mirrored")
        if given := sorted(name for name, value in kwargs.items() if value is not None):
            raise InputError(f"{', '.join(given)} cannot be combined with token control, nor with a position field")


def _gather(patches: Tensor, visible: Tensor | None) -> Tensor:
    """The visible ones of the patches [B, N, D]: [B, n, D]."""
    return patches if visible is None else patches.gather(1, visible[..., None].expand(-1, -1, patches.shape[-1]))


AutoModel.register(SPViTConfig, SPViTModel, exist_ok=True)

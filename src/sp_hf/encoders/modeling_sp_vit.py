"""ViT whose positions can follow the crop, be dropped for chosen tokens, or cover a visible subset.

Letters: B images, N patch tokens of a whole view, n visible ones, D hidden size.

``SPViTModel`` has the parameters of ``ViTModel`` under the same names and, called without the extra arguments,
runs ``ViTModel.forward`` itself; its weights therefore export to the stock class unchanged.  The extra arguments are
what masked and positional pretext tasks need: MAE's visible subset (He et al. 2022, 2111.06377, section 3), DropPos's
dropped positions (Wang et al. 2023, 2309.03576, section 3.1), and positions cut from the image's position field
(:mod:`sp_hf.encoders.position_field`).  The class token keeps its own positional embedding throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AutoModel, ViTModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_sp_vit import SPViTConfig
from .position_field import sample_position_field


class SPViTModel(ViTModel):
    """``ViTModel`` with control over tokens and positions.

    Unlike ``ViTModel`` it has no pooler unless asked for one: nothing here trains it.
    """

    config: SPViTConfig
    config_class = SPViTConfig

    def __init__(self, config: SPViTConfig, add_pooling_layer: bool = False, use_mask_token: bool = False) -> None:
        super().__init__(config, add_pooling_layer=add_pooling_layer, use_mask_token=use_mask_token)

    def forward(
        self,
        pixel_values: Tensor,
        *,
        visible: Tensor | None = None,
        dropped: Tensor | None = None,
        position_token: Tensor | None = None,
        position_boxes: Tensor | None = None,
        position_flips: Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        **kwargs: object,
    ) -> BaseModelOutputWithPooling:
        """Encode normalised pixels.

        Args:
            pixel_values: [B, 3, H, W].
            visible: int64 [B, n], patches that enter the encoder, in this order. ``None``: all N.
            dropped: bool [B, N] over all patches; ``True`` replaces the patch's position by ``position_token``.
            position_token: [D]; given exactly when ``dropped`` is.
            position_boxes: [B, 4] (cx, cy, w, h), normalised; positions are sampled from the image's position
                field at these boxes instead of laid over the view.
            position_flips: bool [B], views mirrored left-right; only with ``position_boxes``.
            interpolate_pos_encoding: as in ``ViTModel``. With any of the above, positions are always
                interpolated to the view's size where ``position_boxes`` does not set them.
            **kwargs: passed to ``ViTModel.forward``; not allowed beside any of the token arguments.

        Returns:
            ``last_hidden_state`` [B, 1 + n, D], the class token first.

        Raises:
            ValueError: arguments that do not belong together.
        """
        control = (visible, dropped, position_token, position_boxes, position_flips)
        if all(argument is None for argument in control):
            return super().forward(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        self._check_control(dropped, position_token, position_boxes, position_flips, kwargs)
        hidden = self._embed(pixel_values, *control)  # [B, 1 + n, D]
        for layer in self.layers:
            hidden = layer(hidden, None)
        hidden = self.layernorm(hidden)
        pooled = None if self.pooler is None else self.pooler(hidden)
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)

    def _embed(
        self,
        pixel_values: Tensor,
        visible: Tensor | None,
        dropped: Tensor | None,
        position_token: Tensor | None,
        position_boxes: Tensor | None,
        position_flips: Tensor | None,
    ) -> Tensor:
        patches = self.embeddings.patch_embeddings(pixel_values.to(self.embeddings.cls_token.dtype))  # [B, N, D]
        height, width = pixel_values.shape[-2:]
        positions = self._positions(patches, height, width, position_boxes, position_flips)  # [1 or B, N, D]
        if dropped is not None:
            positions = torch.where(dropped[..., None], position_token.to(positions.dtype), positions)
        patches = patches + positions
        if visible is not None:
            patches = patches.gather(1, visible[..., None].expand(-1, -1, patches.shape[-1]))  # [B, n, D]
        cls = self.embeddings.cls_token + self.embeddings.position_embeddings[:, :1]
        return self.embeddings.dropout(torch.cat([cls.expand(len(patches), -1, -1), patches], dim=1))

    def _positions(
        self, patches: Tensor, height: int, width: int, boxes: Tensor | None, flips: Tensor | None
    ) -> Tensor:
        """Positional embeddings of a view's patches: [B, N, D] at the boxes, or [1, N, D] laid over the view."""
        table = self.embeddings.position_embeddings  # [1, 1 + h * w, D]
        patch_height, patch_width = self.embeddings.patch_embeddings.patch_size
        image_height, image_width = self.embeddings.image_size
        if boxes is not None:
            field = table[0, 1:].unflatten(0, (image_height // patch_height, image_width // patch_width))
            return sample_position_field(field, boxes, (height // patch_height, width // patch_width), flips)
        if (height, width) != (image_height, image_width):
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
            raise ValueError("dropped and position_token go together: one says which positions, the other what instead")
        if flips is not None and boxes is None:
            raise ValueError("position_flips without position_boxes: positions laid over the view are never mirrored")
        if given := sorted(name for name, value in kwargs.items() if value is not None):
            raise ValueError(f"{', '.join(given)} cannot be combined with visible, dropped or position_boxes")


AutoModel.register(SPViTConfig, SPViTModel, exist_ok=True)

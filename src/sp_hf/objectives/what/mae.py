r"""MAE: the encoder sees a quarter of the patches, a light decoder paints the others.

Letters: B images, V views of one image (1 by default), N patch tokens of a view, n of them visible, D hidden size,
P numbers a patch (3 channels x patch size squared).

    x_i    <- (x_i - mean(x_i)) / std(x_i)                     each patch by its own statistics
    loss    = mean over masked patches i and P of  (decoder(encoder(visible patches), mask tokens)_i - x_i)^2

Citation: He et al. 2021, "Masked autoencoders are scalable vision learners", arXiv:2111.06377, section 3 (masking,
encoder, decoder, reconstruction target), section 4.1 (ratio, decoder size), appendix A.1.

The positions of the decoder are fixed sines and cosines, and so are those of an encoder that starts fresh.

Deviations: an encoder that brings learned positions goes on learning them. Targets are made from pixels in [0, 1], not
from pixels normalised by the data set's statistics. Views are not resampled bicubically
(:mod:`sp_hf.views.resampling`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...encoders.sincos_positions import sincos_positions
from ...views.keyed_random import uniform
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Requests, TokenMask
from ..precision import in_float32
from ..transformer import Decoder
from ..validation import check_decoder, check_fraction

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


def _default_views() -> ViewSpec:
    return ViewSpec(count=1, size=224, area=(0.2, 1.0), flip="own", photometric=Photometric.none())


@dataclasses.dataclass
class MAEConfig(ObjectiveConfig):
    """Options of :class:`MAE`.

    Args:
        views: its views, or a reference to another objective's, such as ``"dino/global"``.
        mask_ratio: share of the patches that the encoder does not see.
        decoder_width, decoder_depth, decoder_heads: of the decoder.
        normalise_pixels: reconstruct each patch at mean 0 and variance 1.
        fixed_positions: keep the encoder's sine-cosine positions as they are, for every objective of the run. Positions
            that have been learned, or were drawn at random, are learned on.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    mask_ratio: float = 0.75
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    normalise_pixels: bool = True
    fixed_positions: bool = True

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        check_fraction("mask_ratio", self.mask_ratio, closed=False)
        check_decoder(self.decoder_width, self.decoder_depth, self.decoder_heads)


def patchify(pixels: Tensor, patch_size: int) -> Tensor:
    """Cut images [..., 3, H, W] into patches, row by row: [..., N, P]."""
    blocks = pixels.unflatten(-1, (-1, patch_size)).unflatten(-3, (-1, patch_size))  # [..., 3, rows, p, columns, p]
    return blocks.movedim(-5, -1).transpose(-4, -3).flatten(-5, -4).flatten(-3)


def normalise_patches(patches: Tensor) -> Tensor:
    """Each patch [..., P] at mean 0 and (unbiased) variance 1."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


@in_float32
def reconstruction_loss(predictions: Tensor, targets: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error of the masked patches: [..., N, P], [..., N, P], bool [..., N]."""
    error = (predictions - targets).square().mean(dim=-1)  # [..., N]
    return (error * masked).sum() / masked.sum()


class MAE(Objective):
    """Masked autoencoder on normalised pixels."""

    config_class = MAEConfig
    kind = "what"
    title = "MAE"
    needs_token_control = True
    citation = """@inproceedings{he2022masked,
  title     = {Masked Autoencoders Are Scalable Vision Learners},
  author    = {He, Kaiming and Chen, Xinlei and Xie, Saining and Li, Yanghao and Doll{\\'a}r, Piotr and Girshick, Ross},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}"""

    def __init__(self, config: MAEConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.patch_size = encoder.patch_size
        self.embed = nn.Linear(encoder.hidden_size, config.decoder_width)
        self.mask_token = nn.Parameter(torch.empty(config.decoder_width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.decoder = Decoder(config.decoder_depth, config.decoder_width, config.decoder_heads)
        self.to_pixels = nn.Linear(config.decoder_width, 3 * self.patch_size**2)
        for layer in (self.embed, self.to_pixels):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"image": self.config.views}

    def visible_patches(self, batch: Batch) -> Tensor:
        """Indices of the patches that the encoder sees, int64 [B, V, n]."""
        count, _, height, width = batch.views["image"].pixels.shape[1:]
        patches = (height // self.patch_size) * (width // self.patch_size)  # N
        scores = uniform(batch.keys, "mae/patches", (count, patches))  # [B, V, N]
        visible = min(max(1, int(patches * (1 - self.config.mask_ratio))), patches - 1)
        return scores.argsort(dim=-1, stable=True)[..., :visible]

    def prepare_encoder(self, encoder: Encoder) -> None:
        if self.config.fixed_positions:
            encoder.fix_sincos_positions()

    def requests(self, batch: Batch) -> Requests:
        visible = self.visible_patches(batch)
        return Requests({"image": Encode("image", mask=TokenMask(visible=visible))}, state=visible)

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        visible = batch.state  # [B, V, n]
        predictions = self.decode(encodings["image"], visible)  # [B, V, N, P]
        targets = patchify(batch.views["image"].pixels, self.patch_size)
        if self.config.normalise_pixels:
            targets = normalise_patches(targets)
        masked = torch.ones(predictions.shape[:-1], dtype=torch.bool, device=visible.device).scatter(-1, visible, False)
        return ObjectiveOutput(reconstruction_loss(predictions, targets, masked), {})

    def decode(self, encoding: Encoding, visible: Tensor) -> Tensor:
        """Pixels of all patches [B, V, N, P], from the class token and the visible patches."""
        rows, columns = encoding.grid
        cls, embedded = self.embed(encoding.cls), self.embed(encoding.patches)  # [B, V, width], [B, V, n, width]
        width = cls.shape[-1]
        tokens = self.mask_token.to(embedded.dtype).expand(*visible.shape[:2], rows * columns, width)
        tokens = tokens.scatter(2, visible[..., None].expand(-1, -1, -1, width), embedded)  # [B, V, N, width]
        tokens = tokens + sincos_positions(rows, columns, width, tokens.device).to(tokens.dtype)
        tokens = torch.cat([cls[:, :, None], tokens], dim=2).flatten(0, 1)  # [B * V, 1 + N, width]
        return self.to_pixels(self.decoder(tokens)[:, 1:]).unflatten(0, visible.shape[:2])

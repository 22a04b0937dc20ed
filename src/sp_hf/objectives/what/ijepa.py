r"""I-JEPA: from a part of the image, predict what a slowly moving copy of the encoder says of other parts.

Letters: B images, V views of one image (1 by default), N patch tokens of a view, n of them in the context, T target
blocks of t patches each, D hidden size, C predictor width.

    s    = encoder(context patches)                y = layer norm of teacher(all patches), without gradient
    z_k  = predictor(s and its positions, mask tokens and the positions of block k), for each block k
    loss = mean over B, V, T, t and D of  smooth-L1(z_k - y at block k)

Citation: Assran et al. 2023, "Self-supervised learning from images with a joint-embedding predictive architecture",
arXiv:2301.08243, section 3 (masks, predictor, loss), appendix A.1; smooth-L1, the layer norm and sizes as in its code.
``position_noise``: Bar et al. 2024, "Stochastic positional embeddings improve masked image modeling" (StoP),
arXiv:2308.00566, section 3: noise on the positions of the mask tokens, through the matrix that projects the context.

Positions of the predictor are fixed sines and cosines, and so are those of an encoder that starts fresh.

Deviations: the encoder has a class token, which enters the predictor as one token of the context, so that it learns,
too. The momentum moves by the run's shared cosine (the paper's is linear). A context that is larger than the batch's
smallest loses patches at random (the authors' code: its last ones). Layers are not scaled by depth at the start.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.initialisation import xavier_
from ...encoders.sincos_positions import sincos_positions
from ...views.keyed_random import normal
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Requests, TokenMask
from ..multi_block import MultiBlock, multi_block
from ..precision import in_float32
from ..transformer import Decoder
from ..validation import (
    check_at_least,
    check_count,
    check_decoder,
    check_fraction,
    check_momentum,
    check_positive,
    pair,
)

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


def _default_views() -> ViewSpec:
    return ViewSpec(count=1, size=224, area=(0.3, 1.0), flip="none", photometric=Photometric.none())


@dataclasses.dataclass
class IJEPAConfig(ObjectiveConfig):
    """Options of :class:`IJEPA`.

    Args:
        views: its views, or a reference to another objective's, such as ``"dino/global"``.
        target_blocks: T, each predicted apart.
        target_area, target_aspect: (low, high), of a target block, as a share of the view and as height / width.
        context_area: (low, high), of the square block that the context is what targets leave of.
        least_context: patches that a context should keep, where blocks can be laid so.
        decoder_width, decoder_depth, decoder_heads: of the predictor.
        position_noise: standard deviation of StoP's noise, 0 for none (its paper: 0.25).
        fixed_positions: keep the encoder's sine-cosine positions as they are, for every objective of the run. Positions
            that have been learned, or were drawn at random, are learned on.
        momentum: (start, end) of the EMA teacher's cosine schedule.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    target_blocks: int = 4
    target_area: tuple[float, float] = (0.15, 0.2)
    target_aspect: tuple[float, float] = (0.75, 1.5)
    context_area: tuple[float, float] = (0.85, 1.0)
    least_context: int = 10
    decoder_width: int = 384
    decoder_depth: int = 6
    decoder_heads: int = 12
    position_noise: float = 0.0
    fixed_positions: bool = True
    momentum: tuple[float, float] = (0.996, 1.0)

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        for option in ("target_area", "target_aspect", "context_area"):
            setattr(self, option, pair(option, getattr(self, option)))
        for option in ("target_area", "context_area"):
            for end in getattr(self, option):
                check_fraction(option, end)
        for end in self.target_aspect:
            check_positive("target_aspect", end)
        check_count("target_blocks", self.target_blocks, 1)
        check_count("least_context", self.least_context, 1)
        check_decoder(self.decoder_width, self.decoder_depth, self.decoder_heads)
        check_at_least("position_noise", self.position_noise, 0)
        self.momentum = check_momentum(self.momentum)


@in_float32
def prediction_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Smooth-L1, mean over all: half the square below 1, the distance less a half above."""
    return F.smooth_l1_loss(predictions, targets)


@torch.no_grad()
@in_float32
def explained_variance(predictions: Tensor, targets: Tensor) -> Tensor:
    """R2 of targets [..., D], against their mean over everything but D: 0 says no more than that mean."""
    error = (predictions - targets).square().sum()
    return 1 - error / (targets - targets.flatten(0, -2).mean(dim=0)).square().sum()


layer_norm = in_float32(F.layer_norm)  # made once: no compiled graph can wrap a function


class IJEPA(Objective):
    """Prediction of a momentum encoder's tokens of blocks, from a context."""

    config_class = IJEPAConfig
    kind = "what"
    title = "I-JEPA"
    needs_token_control = True
    citation = """@inproceedings{assran2023self,
  title     = {Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture},
  author    = {Assran, Mahmoud and Duval, Quentin and Misra, Ishan and Bojanowski, Piotr and Vincent, Pascal
               and Rabbat, Michael and LeCun, Yann and Ballas, Nicolas},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2023}
}"""

    def __init__(self, config: IJEPAConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.patch_size, width = encoder.patch_size, config.decoder_width
        self.embed = nn.Linear(encoder.hidden_size, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.predictor = Decoder(config.decoder_depth, width, config.decoder_heads)
        self.to_tokens = nn.Linear(width, encoder.hidden_size)
        for layer in (self.embed, self.to_tokens):
            xavier_(layer)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"image": self.config.views}

    def prepare_encoder(self, encoder: Encoder) -> None:
        if self.config.fixed_positions:
            encoder.fix_sincos_positions()

    def requests(self, batch: Batch) -> Requests:
        blocks, config = self.draw_blocks(batch), self.config
        encodes = {"context": Encode("image", mask=TokenMask(visible=blocks.context))}
        encodes["teacher"] = Encode("image", tower="teacher")
        noise = None
        if config.position_noise:
            shape = (*blocks.targets.shape[1:], self.embed.in_features)  # [V, T, t, D]
            noise = config.position_noise * normal(batch.keys, "ijepa/noise", shape)
        return Requests(encodes, state=(blocks, noise))

    def draw_blocks(self, batch: Batch) -> MultiBlock:
        """Context and targets of each view."""
        count, _, height, width = batch.views["image"].pixels.shape[1:]
        grid, config = (height // self.patch_size, width // self.patch_size), self.config
        areas = (config.target_area, config.target_aspect, config.context_area)
        return multi_block(batch.keys, "ijepa", count, grid, config.target_blocks, *areas, config.least_context)

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        blocks, noise = batch.state
        predictions = self.predict(encodings["context"], blocks, noise)  # [B, V, T, t, D]
        tokens = encodings["teacher"].patches  # [B, V, N, D]
        with torch.no_grad():
            tokens = layer_norm(tokens, tokens.shape[-1:])
            index = blocks.targets.flatten(2)[..., None].expand(-1, -1, -1, tokens.shape[-1])
            targets = tokens.gather(2, index).unflatten(2, blocks.targets.shape[2:])  # [B, V, T, t, D]
            spread = targets.flatten(0, -2).std(dim=0).mean()
        logs = {"r2": explained_variance(predictions, targets), "target_std": spread}
        return ObjectiveOutput(prediction_loss(predictions, targets), logs)

    def predict(self, encoding: Encoding, blocks: MultiBlock, noise: Tensor | None = None) -> Tensor:
        """The teacher's tokens at each block [B, V, T, t, D], from the class token and those of the context."""
        seen = self.embed(torch.cat([encoding.cls[:, :, None], encoding.patches], dim=2))  # [B, V, 1 + n, C]
        positions = sincos_positions(*encoding.grid, seen.shape[-1], seen.device).to(seen.dtype)  # [N, C]
        seen = torch.cat([seen[:, :, :1], seen[:, :, 1:] + positions[blocks.context]], dim=2)
        asked = self.mask_token.to(seen.dtype) + positions[blocks.targets]  # [B, V, T, t, C]
        if noise is not None:
            asked = asked + F.linear(noise.to(seen.dtype), self.embed.weight.to(seen.dtype))
        each = seen[:, :, None].expand(-1, -1, asked.shape[2], -1, -1)  # [B, V, T, 1 + n, C]
        tokens = torch.cat([each, asked], dim=3).flatten(0, 2)  # [B * V * T, 1 + n + t, C]
        predicted = self.to_tokens(self.predictor(tokens)[:, seen.shape[2] :])
        return predicted.unflatten(0, asked.shape[:3])

    def teacher_momentum(self) -> tuple[float, float]:
        return self.config.momentum

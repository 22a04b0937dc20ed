r"""DropPos: drop most positions of the visible patches, and find them again.

Letters: B images, V views of one image (1 by default), N patch tokens of a view, n of them visible, m of those without
position, D hidden size.

    visible   n = 25 % of the patches; of these m = 75 % have one learned token in place of their positional embedding
    o         = Linear(Decoder(encoder(visible patches)))                          [n, N]; the decoder has no positions
    y_ij      = exp(-d_ij^2 / sigma^2) / sum_j exp(-d_ij^2 / sigma^2)              d in patches, sigma from 1 to 0
    A_i       = softmax_i(cos(class token, patch_i) / 0.1)                         of the encoder on the whole view,
                                                                                   all positions kept, no gradient
    loss      = - sum over the m dropped patches i of  A_i sum_j y_ij log softmax(o_i)_j

Citation: Wang et al. 2023, "DropPos: pre-training vision transformers by reconstructing dropped positions",
arXiv:2309.03576, sections 3.1 (masks), 3.2 (position smoothing, attentive reconstruction).

The forward of the whole view, without gradient, costs about as much again as the rest of a step. The positions of an
encoder that starts fresh are sines and cosines, and stay as they are.

Deviations: the attentive weights are normalised over the patches whose positions were dropped, so that the scale
of the loss does not depend on how many there are. The class token takes part in the decoder's attention. An encoder
that brings learned positions goes on learning them. Views are not resampled bicubically
(:mod:`sp_hf.views.resampling`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...views.keyed_random import uniform
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Progress, Requests, TokenMask
from ..precision import in_float32
from ..transformer import Decoder
from ..validation import check_at_least, check_decoder, check_fraction, check_positive, pair

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


def _default_views() -> ViewSpec:
    return ViewSpec(count=1, size=224, area=(0.2, 1.0), flip="own", photometric=Photometric.none())


@dataclasses.dataclass
class DropPosConfig(ObjectiveConfig):
    """Options of :class:`DropPos`.

    Args:
        views: its views. Not a reference: the classifier has one output a patch, so it must know their size.
        visible_ratio: share of the patches that the encoder sees (gamma).
        drop_ratio: share of those that lose their position.
        decoder_width, decoder_depth, decoder_heads: of the position-free decoder.
        sigma: (start, end) of the width of the soft targets in patches, linear over the run.
        attention_temperature: of the attentive weights.
        fixed_positions: keep the encoder's sine-cosine positions as they are, for every objective of the run. Positions
            that have been learned, or were drawn at random, are learned on.
    """

    views: ViewSpec | dict = dataclasses.field(default_factory=_default_views)
    visible_ratio: float = 0.25
    drop_ratio: float = 0.75
    decoder_width: int = 512
    decoder_depth: int = 2
    decoder_heads: int = 16
    sigma: tuple[float, float] = (1.0, 0.0)
    attention_temperature: float = 0.1
    fixed_positions: bool = True

    def __post_init__(self) -> None:
        views = as_view_spec(self.views, _default_views())
        if isinstance(views, str):
            raise InputError(
                f"drop_pos cannot share the views {views!r}: it has one output a patch and must know their size;"
                " give it a view spec of its own."
            )
        self.views = views
        check_fraction("visible_ratio", self.visible_ratio, closed=False)
        check_fraction("drop_ratio", self.drop_ratio, closed=False)
        self.sigma = pair("sigma", self.sigma)
        for sigma in self.sigma:
            check_at_least("sigma", sigma, 0)
        check_decoder(self.decoder_width, self.decoder_depth, self.decoder_heads)
        check_positive("attention_temperature", self.attention_temperature)


def squared_distances(rows: int, columns: int, device: torch.device | None = None) -> Tensor:
    """Squared distances between the patches of a grid, in patches: [N, N]."""
    index = torch.arange(rows * columns, device=device)
    row, column = index // columns, index % columns
    return ((row[:, None] - row).square() + (column[:, None] - column).square()).float()


def soft_targets(true: Tensor, distances: Tensor, sigma: Tensor) -> Tensor:
    """exp(-d^2 / sigma^2) around the true positions, summing to 1; sigma = 0 is one-hot.

    Args:
        true: int64 [..., m], positions.
        distances: [N, N], squared.
        sigma: scalar.

    Returns:
        [..., m, N].
    """
    return F.softmax(-distances[true] / sigma.square().clamp(min=1e-6), dim=-1)


@torch.no_grad()
@in_float32
def attentive_weights(cls: Tensor, patches: Tensor, temperature: float) -> Tensor:
    """softmax over the patches of cos(cls, patch) / temperature: [..., D] and [..., m, D] to [..., m], no gradient."""
    return F.softmax(F.cosine_similarity(cls[..., None, :], patches, dim=-1) / temperature, dim=-1)


@in_float32
def position_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted soft cross-entropy: logits [..., m, N], targets [..., m, N], weights [..., m] that sum to 1."""
    cross_entropy = -(targets * F.log_softmax(logits, dim=-1)).sum(dim=-1)  # [..., m]
    return (weights * cross_entropy).sum(dim=-1).mean()


class DropPos(Objective):
    """Positions of patches, from their content and from the few patches that kept theirs."""

    config_class = DropPosConfig
    sigma: Tensor
    kind = "where"
    title = "DropPos"
    needs_token_control = True
    citation = """@inproceedings{wang2023droppos,
  title     = {{DropPos}: Pre-Training Vision Transformers by Reconstructing Dropped Positions},
  author    = {Wang, Haochen and Fan, Junsong and Wang, Yuxi and Song, Kaiyou and Wang, Tong and Zhang, Zhaoxiang},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023}
}"""

    def __init__(self, config: DropPosConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        rows, columns = encoder.patches_of(self.config.views.size)
        self.grid = (rows, columns)
        self.patches = rows * columns  # N
        self.visible = max(2, int(config.visible_ratio * self.patches))  # n
        self.dropped = min(max(1, int(config.drop_ratio * self.visible)), self.visible - 1)  # m
        self.position_token = nn.Parameter(torch.empty(encoder.hidden_size))
        nn.init.trunc_normal_(self.position_token, std=0.02)
        self.embed = nn.Linear(encoder.hidden_size, config.decoder_width)
        self.decoder = Decoder(config.decoder_depth, config.decoder_width, config.decoder_heads)
        self.classifier = nn.Linear(config.decoder_width, self.patches)
        self.register_buffer("sigma", torch.tensor(config.sigma[0]))

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"image": self.config.views}

    def visible_patches(self, batch: Batch) -> Tensor:
        """Indices of the visible patches, int64 [B, V, n]; the first m of them lose their position."""
        count = batch.views["image"].pixels.shape[1]
        scores = uniform(batch.keys, "drop_pos/patches", (count, self.patches))  # [B, V, N]
        return scores.argsort(dim=-1, stable=True)[..., : self.visible]

    def requests(self, batch: Batch) -> Requests:
        visible = self.visible_patches(batch)
        dropped = torch.zeros(*visible.shape[:2], self.patches, dtype=torch.bool, device=visible.device)
        dropped = dropped.scatter(-1, visible[..., : self.dropped], True)
        mask = TokenMask(visible, dropped, self.position_token)
        encodes = {"image": Encode("image", mask=mask), "whole": Encode("image", gradient=False)}
        return Requests(encodes, state=visible)

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        cls, patches = encodings["image"].cls, encodings["image"].patches  # [B, V, D], [B, V, n, D]
        true = batch.state[..., : self.dropped]  # [B, V, m]
        tokens = self.embed(torch.cat([cls[:, :, None], patches], dim=2))  # [B, V, 1 + n, width]
        decoded = self.decoder(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        logits = self.classifier(decoded[:, :, 1 : 1 + self.dropped])  # [B, V, m, N]
        targets = soft_targets(true, squared_distances(*self.grid, logits.device), self.sigma)
        whole = encodings["whole"]  # patches [B, V, N, D]
        stripped = whole.patches.gather(2, true[..., None].expand(-1, -1, -1, whole.patches.shape[-1]))  # [B, V, m, D]
        weights = attentive_weights(whole.cls, stripped, self.config.attention_temperature)
        accuracy = (logits.detach().argmax(dim=-1) == true).float().mean()
        return ObjectiveOutput(position_loss(logits, targets, weights), {"accuracy": accuracy})

    def prepare_encoder(self, encoder: Encoder) -> None:
        if self.config.fixed_positions:
            encoder.fix_sincos_positions()

    def set_progress(self, progress: Progress) -> None:
        start, end = self.config.sigma
        self.sigma.fill_(start + (end - start) * progress.fraction)

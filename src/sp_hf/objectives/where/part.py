r"""PART: how far two patches lie apart, of patches cut anywhere, on no grid, and without positions.

Letters: B images, V views of one image (1 by default), N patches of a view, p pixels a side of a patch, P pairs, D
hidden size.

    patches   N squares of p x p pixels at uniform places of the view, pasted row by row into a picture of its size
    r_ij    = (x_j - x_i, y_j - y_i) / p                                           where they were cut
    o_ij    = W [z_i; z_j] + b                                                     head: linear
            = W attention(W_q [z_i; z_j] + b_q; z_1, ..., z_N) + b                 head: attention
    loss    = mean over B, V, P, 2 of (o_ij - r_ij / std)^2

Citation: Ayoughi et al. 2025, "PART: pre-training with relative transformations" (NLDL 2026), arXiv:2506.03682,
section 3 (off-grid patches, relative targets), 4 (heads), and the authors' code (64 pairs).

Deviations: pairs are drawn for each view, not for the batch. Targets are divided by their standard deviation, which
the uniform places imply, so the loss starts near 1 whatever the size of views (the paper has r itself: the loss is
multiplied by a constant). Patches of random width and height, a later version's, are left out.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...views.compose import cut_patches, montage
from ...views.keyed_random import uniform
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput, Requests, TokenMask
from ..pair_regression import r2_score, regression_loss
from ..validation import check_choice, check_count, check_heads

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


def _default_views() -> ViewSpec:
    return ViewSpec(count=1, size=224, area=(0.08, 1.0), flip="own", photometric=Photometric(0.4, 0.4, 0.4))


@dataclasses.dataclass
class PARTConfig(ObjectiveConfig):
    """Options of :class:`PART`.

    Args:
        views: its views, or a reference to another objective's, such as ``"dino/global"``.
        pairs: P, of a view.
        head: ``"linear"`` on both patches, or ``"attention"``, which looks at all patches on their behalf.
        attention_heads: of the latter; must divide the hidden size.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    pairs: int = 64
    head: Literal["linear", "attention"] = "linear"
    attention_heads: int = 4

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        check_count("pairs", self.pairs, 1)
        check_choice("head", self.head, ("linear", "attention"))
        check_count("attention_heads", self.attention_heads, 1)


class Cuts(NamedTuple):
    """What was cut, and what is compared; int64."""

    corners: Tensor  # [B, V, N, 2], x and y of the upper left one, in pixels
    pairs: Tensor  # [B, V, P, 2], patches i and j


def draw_cuts(keys: Tensor, views: int, patches: int, pairs: int, places: int) -> Cuts:
    """Patches at any of ``places`` x ``places`` corners, and pairs of two different ones of them.

    Args:
        keys: int64 [B]. views, patches, pairs: V, N (at least 2) and P.
    """
    corners = (uniform(keys, "part/corners", (views, patches, 2)) * places).long()
    u = uniform(keys, "part/pairs", (views, pairs, 2))
    first, others = (u[..., 0] * patches).long(), (u[..., 1] * (patches - 1)).long()
    return Cuts(corners, torch.stack([first, others + (others >= first)], dim=-1))


def offset_std(places: int) -> float:
    """Standard deviation of the difference of two uniform integers below ``places``, at least 1 to divide by."""
    return max(math.sqrt((places**2 - 1) / 6), 1.0)


class PairOffsets(nn.Module):
    """Offsets of pairs of tokens, from both of them, or from what they make of all.

    Args:
        features: D. heads: of the attention; ``None``: linear.
    """

    def __init__(self, features: int, heads: int | None) -> None:
        super().__init__()
        self.attention = self.query = None
        if heads is not None:
            check_heads("attention_heads", heads, features)
            self.query = nn.Linear(2 * features, features)
            self.attention = nn.MultiheadAttention(features, heads, batch_first=True)
        self.out = nn.Linear(2 * features if heads is None else features, 2)

    def forward(self, tokens: Tensor, pairs: Tensor) -> Tensor:
        """[M, N, D] and int64 [M, P, 2] to [M, P, 2]."""
        index = pairs.flatten(1)[..., None].expand(-1, -1, tokens.shape[-1])
        both = tokens.gather(1, index).unflatten(1, (-1, 2)).flatten(2)  # [M, P, 2 D]
        if self.query is not None and self.attention is not None:
            both = self.attention(self.query(both), tokens, tokens, need_weights=False)[0]
        return self.out(both)


class PART(Objective):
    """Offsets between patches that lie on no grid."""

    config_class = PARTConfig
    no_position: Tensor  # [D]
    kind = "where"
    title = "PART"
    needs_token_control = True
    own_metric = ("r2_position", "R2 of offsets between patches")
    citation = """@article{ayoughi2025part,
  title   = {{PART}: Pre-training with Relative Transformations},
  author  = {Ayoughi, Melika and Abnar, Samira and Huang, Chen and Sandino, Chris and Lala, Sayeri
             and Dhekane, Eeshan Gunesh and Busbridge, Dan and Zhai, Shuangfei and Thilak, Vimal and Susskind, Josh
             and Mettes, Pascal and Groth, Paul and Goh, Hanlin},
  journal = {arXiv preprint arXiv:2506.03682},
  year    = {2025}
}"""

    def __init__(self, config: PARTConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.patch_size = encoder.patch_size
        self.head = PairOffsets(encoder.hidden_size, config.attention_heads if config.head == "attention" else None)
        self.register_buffer("no_position", torch.zeros(encoder.hidden_size))

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"image": self.config.views}

    def requests(self, batch: Batch) -> Requests:
        pixels = batch.views["image"].pixels  # [B, V, 3, H, H]
        patch, size = self.patch_size, pixels.shape[-1]
        side, lead = size // patch, pixels.shape[:2]
        cuts = draw_cuts(batch.keys, lead[1], side**2, self.config.pairs, size - patch + 1)
        lefts, tops = cuts.corners.flatten(0, 1).unbind(-1)  # [B V, N]
        pasted = montage(cut_patches(pixels.flatten(0, 1), tops, lefts, patch), side, side).unflatten(0, lead)
        dropped = torch.ones(*lead, side**2, dtype=torch.bool, device=pixels.device)
        mask = TokenMask(dropped=dropped, position_token=self.no_position)
        views = {"patches": batch.views["image"]._replace(pixels=pasted)}
        return Requests({"patches": Encode("patches", mask=mask, positions="view")}, views, cuts)

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        cuts, size = batch.state, batch.views["image"].pixels.shape[-1]
        tokens, pairs = encodings["patches"].patches.flatten(0, 1), cuts.pairs.flatten(0, 1)  # [B V, N, D]
        predictions = self.head(tokens, pairs)  # [B V, P, 2]
        index = pairs.flatten(1)[..., None].expand(-1, -1, 2)
        first, second = cuts.corners.flatten(0, 1).gather(1, index).unflatten(1, (-1, 2)).unbind(2)
        targets = (second - first) / offset_std(size - self.patch_size + 1)
        loss = regression_loss(predictions, targets, "l2")
        return ObjectiveOutput(loss, {"r2_position": r2_score(predictions.detach(), targets)})

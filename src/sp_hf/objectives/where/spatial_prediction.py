r"""Spatial Prediction (SP): regress where and how large one local view is, seen from another.

Letters: B images, V local views of one image, P = V(V-1) ordered pairs (i, j), D hidden size.

    r_ij   = (dx, dy, log w_j/w_i, log h_j/h_i)                  in the frame in which view i shows the image
    loss   = mean over B, P, 4 of  distance(MLP([z_i; z_j]), r_ij / std)

Citation: Shen et al. 2026, "Learning to perceive 'where': spatial pretext tasks for robust self-supervised learning",
arXiv:2605.09963, abstract: a regression of relative position and scale between a pair of disentangled local views in a
continuous geometric space, as a plug-in beside other self-supervised frameworks.

Choices made here (the abstract fixes the task, not its details):

- All ordered pairs of V views are regressed, not one pair: 12 targets from 4 encodings.
- Targets are divided by the standard deviations (one of positions, one of log ratios) that the view set's box
  distribution implies on a square image, so that position and scale weigh the same whatever the units and the area
  range, and smooth-L1's ``beta`` is in standard deviations. The constants are fixed when the model is built
  (views shared with another objective: those of this objective's default views, unless ``target_std`` is given).
- The views are the objective's own: small crops with one flip an image, so that geometry stays true, and each its
  own photometric jitter; ``effective_resolution`` draws each view's sharpness independently of its box, since a
  small box enlarged is blurry, and scale would be read from the blur.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...views.pairs import check_view_count, ordered_pairs, pair_relations, relation_std
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..diagnosis import Finding, LogHistory
from ..precision import in_float32
from ..validation import check_at_least, check_choice, check_positive, pair

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

# Of its own R2 of position. At 300 steps an encoder that could not learn had 0.001, one that did 0.203, and the weakest
# of the runs in docs/results.md, after 376 steps beside another framework, 0.04.
LEAST_R2 = 0.02


def _default_views() -> ViewSpec:
    return ViewSpec(
        count=4, size=96, area=(0.05, 0.4), flip="shared", photometric=Photometric.dino_local(),
        effective_resolution=(0.3, 0.6),
    )  # fmt: skip


@dataclasses.dataclass
class SpatialPredictionConfig(ObjectiveConfig):
    """Options of :class:`SpatialPrediction`.

    Args:
        weight: of the loss in a run's sum. 3 and the other defaults were chosen by ``recipes/sweeps/ablations.yaml``
            (results: docs/results.md, "Ablations of SP").
        views: V local views, or a reference to another objective's, such as ``"dino/local"``.
        embedding: what stands for a view: ``"cls"`` or ``"mean_patch"``.
        units: of the offset: ``"image"`` or ``"view"`` (the first view's width and height).
        loss: ``"smooth_l1"`` or ``"l2"``.
        beta: where smooth-L1 goes from square to absolute, in standard deviations of the target.
        head_width: hidden width of the MLP.
        head_depth: its linear layers, at least 2.
        target_std: (position, scale) that targets are divided by; ``None`` takes those of the view set.
    """

    weight: float = 3.0
    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    embedding: Literal["cls", "mean_patch"] = "cls"
    units: Literal["image", "view"] = "image"
    loss: Literal["smooth_l1", "l2"] = "smooth_l1"
    beta: float = 1.0
    head_width: int = 1024
    head_depth: int = 3
    target_std: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        check_choice("embedding", self.embedding, ("cls", "mean_patch"))
        check_choice("units", self.units, ("image", "view"))
        check_choice("loss", self.loss, ("smooth_l1", "l2"))
        check_positive("beta", self.beta)
        check_at_least("head_width", self.head_width, 1)
        check_at_least("head_depth", self.head_depth, 2)
        if isinstance(self.views, ViewSpec):
            check_view_count(self.views, "spatial_prediction")
        if self.target_std is not None:
            self.target_std = pair("target_std", self.target_std)
            for std in self.target_std:
                check_positive("target_std", std)


class PairHead(nn.Module):
    """MLP on the concatenation [z_i; z_j] of every ordered pair.

    The first layer is linear in the concatenation, so each half of its weight is applied once a view, and the halves
    are added a pair.

    Args:
        features: D.
        width: hidden width.
        depth: linear layers, at least 2.
        outputs: numbers a pair.
    """

    def __init__(self, features: int, width: int, depth: int, outputs: int = 4) -> None:
        super().__init__()
        self.first_layer = nn.Linear(2 * features, width)
        hidden = [layer for _ in range(depth - 2) for layer in (nn.GELU(), nn.Linear(width, width))]
        self.rest = nn.Sequential(*hidden, nn.GELU(), nn.Linear(width, outputs))

    def forward(self, embeddings: Tensor) -> Tensor:
        """[B, V, D] to [B, P, outputs]."""
        of_first, of_second = self.first_layer.weight.chunk(2, dim=1)
        first, second = ordered_pairs(embeddings.shape[1], embeddings.device)
        as_first = F.linear(embeddings, of_first, self.first_layer.bias)  # [B, V, width]
        as_second = F.linear(embeddings, of_second)
        return self.rest(as_first[:, first] + as_second[:, second])


@in_float32
def regression_loss(predictions: Tensor, targets: Tensor, kind: str = "smooth_l1", beta: float = 1.0) -> Tensor:
    """Mean smooth-L1 or squared distance of standardised relations, [..., 4] each."""
    if kind == "l2":
        return F.mse_loss(predictions, targets)
    return F.smooth_l1_loss(predictions, targets, beta=beta)


@in_float32
def r2_score(predictions: Tensor, targets: Tensor) -> Tensor:
    """Share of variance explained, estimated on the batch: the mean of each component's R2. [..., C] each.

    A component that does not vary counts as 0: there is nothing to explain.
    """
    predictions, targets = predictions.flatten(0, -2), targets.flatten(0, -2)
    residual = (targets - predictions).square().sum(dim=0)
    total = (targets - targets.mean(dim=0)).square().sum(dim=0)
    varies = total > 1e-6 * len(targets)
    return torch.where(varies, 1 - residual / total.where(varies, 1.0), 0.0).mean()


class SpatialPrediction(Objective):
    """Relative position and scale of pairs of local views."""

    config_class = SpatialPredictionConfig
    kind = "where"
    citation = """@article{shen2026spatial,
  title   = {Learning to Perceive ``Where'': Spatial Pretext Tasks for Robust Self-Supervised Learning},
  author  = {Shen, Yang and Cai, Yusen and Hryniewska-Guzik, Weronika and Lin, Qing and Zhang, Mengmi},
  journal = {arXiv preprint arXiv:2605.09963},
  year    = {2026}
}"""

    def __init__(self, config: SpatialPredictionConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = PairHead(encoder.hidden_size, config.head_width, config.head_depth)
        spec = config.views if isinstance(config.views, ViewSpec) else _default_views()
        position, scale = config.target_std or relation_std(spec, config.units)
        self.register_buffer("target_std", torch.tensor([position, position, scale, scale]))

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"local": self.config.views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"local": Encode("local")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        views, encoding = batch.views["local"], encodings["local"]
        check_view_count(views, "spatial_prediction")
        embeddings = encoding.cls if self.config.embedding == "cls" else encoding.patches.mean(dim=2)  # [B, V, D]
        predictions = self.head(embeddings)  # [B, P, 4], in standard deviations
        targets = pair_relations(views.boxes, views.flips, self.config.units) / self.target_std
        loss = regression_loss(predictions, targets, self.config.loss, self.config.beta)
        predicted = predictions.detach()
        logs = {
            "r2_position": r2_score(predicted[..., :2], targets[..., :2]),
            "r2_scale": r2_score(predicted[..., 2:], targets[..., 2:]),
        }
        return ObjectiveOutput(loss, logs)

    def diagnose(self, history: LogHistory) -> list[Finding]:
        r2 = history.recent("r2_position")
        if r2 is None or r2.mean >= LEAST_R2 or not history.settled:
            return []
        seen = f"Spatial Prediction has not left zero: its own R2 of position is {r2.mean:.3f}, under {LEAST_R2}"
        remedy = (
            "Start a fresh encoder with --initialisation xavier, raise --learning_rate or the objective's weight, or"
            " train longer; views without photometric jitter tell whether the task can be learnt at all."
        )
        return [Finding("sp-at-zero", r2.since, seen, remedy)]

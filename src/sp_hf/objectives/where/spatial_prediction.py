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
- ``head: difference`` sees z_j - z_i alone, instead of both (:class:`~sp_hf.objectives.pair_head.DifferenceHead`).
  It knows nothing of the first view but the step to the second, so it goes with offsets in units of the image and one
  flip an image; offsets in view widths, or seen from views with flips of their own, are for ``concat``.
- ``loss: laplace`` predicts beside each number how far off it may be, and is its negative log-likelihood.
- ``embedding: patch`` compares patch tokens of two views, at random, and regresses how their boxes lie, which are
  exact: P is then ``patch_pairs``. Where a token lies in its own view its position embedding tells, and that alone
  explains two fifths of the variance of offsets (area 0.05 to 0.4; of larger views more). So ``r2_position`` is then
  the share explained of what a linear fit on the two places leaves: below 0 until the head has learnt as much. Choices
  of ours; a relative is PART-MAE v6 (github.com/dgcnz/REPR, 2025), with patches off the grid and without positions.
- The views are the objective's own: small crops with one flip an image, so that geometry stays true, and each its
  own photometric jitter; ``effective_resolution`` draws each view's sharpness independently of its box, since a
  small box enlarged is blurry, and scale would be read from the blur.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ...errors import InputError
from ...views.geometry import relation
from ...views.pairs import check_view_count, draw_patch_pairs, pair_relations, patches_seen, pick, relation_std
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..diagnosis import Finding, LogHistory
from ..pair_head import PairHeadKind, pair_head
from ..pair_regression import bounded_log_scales, half_coverage, laplace_loss, r2_score, regression_loss
from ..validation import check_choice, check_count, check_positive, pair

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding
    from ...views.sampler import Views

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
        weight: of the loss in a run's sum. At 1, beside MAE, kNN and linear probe gain; at 3 they gain less
            (docs/results/pilots.md). ``recipes/sweeps/sp_ablations.yaml`` asks what the other options are worth.
        views: V local views, or a reference to another objective's, such as ``"dino/local"``.
        embedding: what is compared: views, for each of which stands its ``"cls"`` token or ``"mean_patch"``, or the
            tokens of ``"patch"`` pairs.
        patch_pairs: for ``embedding: patch``, how many an image; 64 as in PART (arXiv:2506.03682).
        units: of the offset: ``"image"`` or ``"view"`` (width and height of the first view, or patch).
        loss: ``"smooth_l1"``, ``"l2"`` or ``"laplace"``.
        beta: where smooth-L1 goes from square to absolute, in standard deviations of the target.
        head: ``"concat"``, an MLP on [z_i; z_j], or ``"difference"``, on z_j - z_i.
        head_width: hidden width of the MLP.
        head_depth: its linear layers, at least 2; a difference may have 1, unless the loss is ``"laplace"``.
        target_std: (position, scale) that targets are divided by; ``None`` takes those of the view set.
    """

    weight: float = 1.0
    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    embedding: Literal["cls", "mean_patch", "patch"] = "cls"
    patch_pairs: int = 64
    units: Literal["image", "view"] = "image"
    loss: Literal["smooth_l1", "l2", "laplace"] = "smooth_l1"
    beta: float = 1.0
    head: PairHeadKind = "concat"
    head_width: int = 1024
    head_depth: int = 3
    target_std: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        check_choice("embedding", self.embedding, ("cls", "mean_patch", "patch"))
        check_count("patch_pairs", self.patch_pairs, 1)
        check_choice("units", self.units, ("image", "view"))
        check_choice("loss", self.loss, ("smooth_l1", "l2", "laplace"))
        check_choice("head", self.head, ("concat", "difference"))
        check_positive("beta", self.beta)
        check_count("head_width", self.head_width, 1)
        check_count("head_depth", self.head_depth, 1)
        if self.head_depth == 1 and (self.head == "concat" or self.loss == "laplace"):
            raise InputError(
                f"head_depth is 1 with head: {self.head} and loss: {self.loss}; one layer is for head: difference and a"
                " loss other than laplace (a scale is no difference): make it at least 2."
            )
        if isinstance(self.views, ViewSpec):
            check_view_count(self.views, "spatial_prediction")
            if self.embedding == "patch" and self.views.rotation:
                raise InputError(
                    f"embedding is 'patch' with views of rotation {self.views.rotation}: turned patches have no upright"
                    " boxes; leave out the rotation, or compare views."
                )
        if self.target_std is not None:
            self.target_std = pair("target_std", self.target_std)
            for std in self.target_std:
                check_positive("target_std", std)


class SpatialPrediction(Objective):
    """Relative position and scale of pairs of local views."""

    config_class = SpatialPredictionConfig
    target_std: Tensor  # [4]
    kind = "where"
    title = "Spatial Prediction"
    teaches = (
        "It was taught not only *what* is in an image but *where* its parts are: from two crops, each seen on its own,"
        " it had to tell where the second lies relative to the first, and how much larger it is."
    )
    measured = "beside MAE on Caltech-101, one seed: position beyond cues 0.077 to 0.200, kNN 43.4 to 45.3 %"
    own_metric = ("r2_position", "SP's own R2 of position")
    citation = """@article{shen2026spatial,
  title   = {Learning to Perceive ``Where'': Spatial Pretext Tasks for Robust Self-Supervised Learning},
  author  = {Shen, Yang and Cai, Yusen and Hryniewska-Guzik, Weronika and Lin, Qing and Zhang, Mengmi},
  journal = {arXiv preprint arXiv:2605.09963},
  year    = {2026}
}"""

    def __init__(self, config: SpatialPredictionConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        outputs = 8 if config.loss == "laplace" else 4
        self.head = pair_head(config.head, encoder.hidden_size, config.head_width, config.head_depth, outputs)
        position, scale = config.target_std or self._std_of_views(config, encoder)
        self.register_buffer("target_std", torch.tensor([position, position, scale, scale]))

    @staticmethod
    def _std_of_views(config: SpatialPredictionConfig, encoder: Encoder) -> tuple[float, float]:
        own = config.views if isinstance(config.views, ViewSpec) else None
        patches = None
        if config.embedding == "patch":  # of shared views the grid is not known, and hardly matters
            patches = (8, 8) if own is None else encoder.patches_of(own.size)
        return relation_std(own or _default_views(), config.units, patches)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"local": self.config.views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"local": Encode("local")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        views, encoding = batch.views["local"], encodings["local"]
        check_view_count(views, "spatial_prediction")
        places = None
        if self.config.embedding == "patch":
            outputs, relations, places = self._compare_patches(batch.keys, views, encoding)
        else:
            embeddings = encoding.cls if self.config.embedding == "cls" else encoding.patches.mean(dim=2)  # [B, V, D]
            outputs = self.head(embeddings)  # [B, P, 4 or 8], in standard deviations
            relations = pair_relations(*views.drawn, self.config.units)  # [B, P, 4]
        targets = relations / self.target_std
        predictions = outputs[..., :4]
        if self.config.loss == "laplace":
            log_scales = bounded_log_scales(outputs[..., 4:])
            loss = laplace_loss(predictions, log_scales, targets)
            logs = _spread(predictions.detach(), log_scales.detach(), targets)
        else:
            loss, logs = regression_loss(predictions, targets, self.config.loss, self.config.beta), {}
        predicted = predictions.detach()
        logs["r2_position"] = r2_score(predicted[..., :2], targets[..., :2], places)
        logs["r2_scale"] = r2_score(predicted[..., 2:], targets[..., 2:])
        return ObjectiveOutput(loss, logs)

    def _compare_patches(self, keys: Tensor, views: Views, encoding: Encoding) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs [B, P, 4 or 8], relations [B, P, 4] and places [B, P, 2, 2] of random pairs of patch tokens.

        Places are those of both patches in their own views, in the frame of the first: x of both, y of both.
        """
        if views.angles is not None:
            raise InputError("embedding is 'patch', but the views are turned; leave out their rotation.")
        count, patches = encoding.patches.shape[1:3]
        pairs = draw_patch_pairs(keys, "spatial_prediction/patches", count, patches, self.config.patch_pairs)
        tokens = encoding.patches.flatten(1, 2)  # [B, V N, D]
        outputs = self.head.of_pairs(pick(tokens, pairs.first), pick(tokens, pairs.second))
        boxes, flips = views.drawn
        first, second = patches_seen(boxes, flips, encoding.grid, pairs)
        whole = boxes.new_tensor([0.5, 0.5, 1.0, 1.0]).expand_as(boxes)
        in_views = patches_seen(whole, flips, encoding.grid, pairs)
        places = torch.stack([placed[..., :2] for placed in in_views], dim=-1)
        return outputs, relation(first, second, self.config.units), places

    def diagnose(self, history: LogHistory) -> list[Finding]:
        r2 = history.recent("r2_position")
        if r2 is None or r2.mean >= LEAST_R2 or not history.settled:
            return []
        observation = f"Spatial Prediction has not left zero: its own R2 of position is {r2.mean:.3f}, under {LEAST_R2}"
        remedy = (
            "Start a fresh encoder with --initialisation xavier, raise --learning_rate or the objective's weight, or"
            " train longer; views without photometric jitter tell whether the task can be learnt at all."
        )
        return [Finding("sp-at-zero", r2.since, observation, remedy)]


def _spread(locations: Tensor, log_scales: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Mean predicted Laplace scales, in standard deviations of the targets, and whether they are right."""
    scales = log_scales.exp()
    return {
        "spread_position": scales[..., :2].mean(),
        "spread_scale": scales[..., 2:].mean(),
        "half_coverage": half_coverage(locations, log_scales, targets),
    }

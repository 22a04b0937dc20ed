r"""Spatial Context Networks (SCN): predict the features of one view from those of another and their offset.

Letters: B images, V views of one image, P = V(V-1) ordered pairs (i, j), D hidden size.

    loss = mean over B, P, D of  (MLP([z_i; r_ij]) - layer_norm(stop_gradient(t_j)))^2

z are the student's embeddings, t the teacher's, r_ij the position and scale of view j seen from view i, each divided
by its standard deviation over the view set.

Citation: Wu, Davis, Sigal 2017, "Weakly-supervised spatial context networks", arXiv:1704.02998, section 3: a spatial
context module maps the representation of one patch and the real-valued offset to another to the latter's, under L2.

``patches: objects`` cuts half of the views around objects (the paper: proposals of another method), which the encoder
as it was at the start finds by its own patch tokens (:mod:`sp_hf.encoders.object_boxes`), the other half anywhere, so
that an image of one object has pairs, too. The paper starts from a trained encoder, whose copy is the fixed target:
``momentum: [1, 1]``, which objects require.

Deviations: the target is an EMA teacher by default, normalised over its features so that it cannot shrink. The relation
has the log ratio of sizes beside the offset. The views of an image share one flip, as the relation does not say that
the second is mirrored.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.object_boxes import object_boxes
from ...errors import InputError
from ...views.pairs import check_view_count, ordered_pairs, pair_relations, relation_std
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..precision import in_float32
from ..validation import check_at_least, check_choice, check_count, check_fraction, pair

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

OBJECTS = "spatial_context_objects"
OBJECT_SHARE = 0.5


def _default_views() -> ViewSpec:
    return ViewSpec(count=4, size=96, area=(0.05, 0.4), flip="shared", photometric=Photometric.dino_local())


@dataclasses.dataclass
class SpatialContextConfig(ObjectiveConfig):
    """Options of :class:`SpatialContext`.

    Args:
        views: V local views, or a reference to another objective's, such as ``"spatial_prediction/local"``.
        patches: what the views show: ``"random"`` places, or ``"objects"`` with a probability of a half.
        num_objects: found an image, at most.
        units: of the offset: ``"image"`` or ``"view"`` (the first view's width and height).
        head_width: hidden width of the context module.
        head_depth: its linear layers, at least 2.
        momentum: (start, end) of the EMA teacher's schedule; (1, 1) keeps the encoder as it was at the start.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_views)
    patches: Literal["random", "objects"] = "random"
    num_objects: int = 4
    units: str = "image"
    head_width: int = 2048
    head_depth: int = 3
    momentum: tuple[float, float] = (0.996, 1.0)

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, _default_views())
        check_choice("units", self.units, ("image", "view"))
        check_at_least("head_width", self.head_width, 1)
        check_at_least("head_depth", self.head_depth, 2)
        self.momentum = pair("momentum", self.momentum)
        for momentum in self.momentum:
            check_fraction("momentum", momentum)
        if isinstance(self.views, ViewSpec):
            check_view_count(self.views, "spatial_context")
        check_choice("patches", self.patches, ("random", "objects"))
        check_count("num_objects", self.num_objects, 1)
        if self.patches == "objects":
            self._check_objects()

    def _check_objects(self) -> None:
        if not isinstance(self.views, ViewSpec) or self.views.boxes is not None:
            raise InputError("patches is 'objects', but the views are another's, or have boxes; give a plain view spec")
        if self.momentum != (1.0, 1.0):
            raise InputError(
                "patches is 'objects', which the encoder finds as it was at the start, but momentum is"
                f" {self.momentum}; set it to [1, 1], or boxes to a column of sp_hf.with_object_boxes"
            )


class ContextModule(nn.Module):
    """MLP([z_i; r_ij]) of every ordered pair; the part of the first layer that sees z_i is applied once a view.

    Args:
        features: D.
        width: hidden width.
        depth: linear layers, at least 2.
    """

    def __init__(self, features: int, width: int, depth: int) -> None:
        super().__init__()
        self.from_features = nn.Linear(features, width)
        self.from_relation = nn.Linear(4, width, bias=False)
        hidden = [layer for _ in range(depth - 2) for layer in (nn.GELU(), nn.Linear(width, width))]
        self.rest = nn.Sequential(*hidden, nn.GELU(), nn.Linear(width, features))

    def forward(self, embeddings: Tensor, relations: Tensor) -> Tensor:
        """Embeddings [B, V, D] and relations [B, P, 4] to predicted features [B, P, D]."""
        first, _ = ordered_pairs(embeddings.shape[1], embeddings.device)
        return self.rest(self.from_features(embeddings)[:, first] + self.from_relation(relations))


@in_float32
def context_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared distance of predictions [B, P, D] to the layer-normalised targets [B, P, D]."""
    return F.mse_loss(predictions, normalised(targets))


def normalised(features: Tensor) -> Tensor:
    """Features [..., D] at mean 0 and variance 1 over D."""
    return F.layer_norm(features, features.shape[-1:])


@in_float32
def explained_variance(predictions: Tensor, targets: Tensor) -> Tensor:
    """1 - error / variance over the batch of the normalised targets. A collapsed teacher has no variance to explain."""
    targets = normalised(targets).flatten(0, 1)  # [B * P, D]
    residual = (targets - predictions.flatten(0, 1)).square().mean()
    return 1 - residual / (targets - targets.mean(dim=0)).square().mean().clamp(min=1e-12)


class SpatialContext(Objective):
    """Features of one view predicted from another's and their relation."""

    config_class = SpatialContextConfig
    relation_std: Tensor  # [4]
    kind = "where"
    proposes: tuple[str, ...] = (OBJECTS,)
    title = "Spatial Context Networks"
    citation = """@inproceedings{wu2017weakly,
  title     = {Weakly-Supervised Spatial Context Networks},
  author    = {Wu, Zuxuan and Davis, Larry S. and Sigal, Leonid},
  booktitle = {IEEE Winter Conference on Applications of Computer Vision},
  year      = {2019}
}"""

    def __init__(self, config: SpatialContextConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.head = ContextModule(encoder.hidden_size, config.head_width, config.head_depth)
        spec = config.views if isinstance(config.views, ViewSpec) else _default_views()
        position, scale = relation_std(spec, self.config.units)
        self.register_buffer("relation_std", torch.tensor([position, position, scale, scale]))

        self.side = encoder.image_side
        self._found: dict[int, Tensor] = {}  # boxes by image; what is found again is the same, so it is no state
        if config.patches == "random":
            self.proposes = ()

    def view_specs(self) -> dict[str, ViewSpec | str]:
        views = self.config.views
        if self.config.patches == "objects":
            views = dataclasses.replace(views, boxes=OBJECTS, box_share=OBJECT_SHARE)
        return {"local": views}

    @torch.no_grad()
    def propose_boxes(
        self, encoder: Encoder, canvases: Tensor, aspects: Tensor, ids: Tensor | None
    ) -> dict[str, Tensor]:
        numbers: list[int | None] = [None] * len(canvases) if ids is None else ids.tolist()
        new = [i for i, number in enumerate(numbers) if number is None or number not in self._found]
        boxes = torch.zeros(len(canvases), self.config.num_objects, 4, device=canvases.device)
        if new:
            images = F.interpolate(canvases[new].float() / 255, size=(self.side, self.side), mode="area")
            encoding = encoder(images)
            boxes[new] = object_boxes(encoding.patches, encoding.grid, self.config.num_objects)
        for i, number in enumerate(numbers):
            if number is not None:
                boxes[i] = self._found.setdefault(number, boxes[i].cpu()).to(boxes)
        return {OBJECTS: boxes}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"student": Encode("local"), "teacher": Encode("local", tower="teacher")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        views = batch.views["local"]
        check_view_count(views, "spatial_context")
        relations = pair_relations(*views.drawn, self.config.units) / self.relation_std  # [B, P, 4]
        _, second = ordered_pairs(views.pixels.shape[1], views.pixels.device)
        predictions = self.head(encodings["student"].cls, relations)  # [B, P, D]
        targets = encodings["teacher"].cls.detach()[:, second]  # [B, P, D]
        loss = context_loss(predictions, targets)
        return ObjectiveOutput(loss, {"explained_variance": explained_variance(predictions.detach(), targets)})

    def teacher_momentum(self) -> tuple[float, float]:
        return self.config.momentum

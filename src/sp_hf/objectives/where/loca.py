r"""LOCA: where in a reference view the patches of other views lie, and which prototypes they share with it.

Letters: B images, Q patch tokens of all queries of an image, N of its reference, n of these in sight, D hidden size, K
prototypes.

    i(q)       the reference's patch in which the centre of the query's patch q lies; none outside
    t          the EMA teacher's tokens of the reference
    location = - log softmax(W block(z_q; n tokens of t, a run) + b)_i(q)          block: cross-attention of z_q to them
    p_t        = sinkhorn(head_t(t) / 0.05) over the tokens of all processes' references
    cluster  = - p_t(i(q)) . log softmax(head(z_q) / 0.1)  -  entropy of the mean over q of softmax(head(z_q) / 0.1)
    loss     = location + cluster_weight cluster       means over images of each one's mean over its q that lie inside

Citation: Caron, Houlsby, Schmid 2022, "Location-aware self-supervised transformers for semantic segmentation" (LOCA),
arXiv:2212.02400, section 3 (location, masked reference), 3.3 (patch clustering), and its code.

Choices and deviations: the reference is the teacher's also for the location. Queries keep their positions, with or
without the cluster loss, and the large query all of its tokens. An image without a patch inside counts as 0. The
entropy of the mean is over the images of all processes. The run of tokens in sight is each image's own.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...views.geometry import to_xyxy
from ...views.keyed_random import uniform
from ...views.pairs import patch_boxes, pick
from ...views.photometric import Photometric
from ...views.sampler import Views
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..centring import sinkhorn
from ..gather import all_reduce_sum
from ..heads import DINOHead
from ..precision import in_float32
from ..prior import blind_answers_right
from ..transformer import CrossAttention
from ..validation import check_at_least, check_count, check_fraction, check_heads, check_momentum, check_positive

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


def _default_reference() -> ViewSpec:
    return ViewSpec(count=1, size=224, area=(0.32, 1.0), flip="none", photometric=Photometric.byol(blur_prob=1.0))


def _default_query() -> ViewSpec:
    photometric = Photometric.byol(blur_prob=0.1, solarise_prob=0.2)
    return ViewSpec(count=1, size=224, area=(0.32, 1.0), flip="own", photometric=photometric)


def _default_local() -> ViewSpec:
    return ViewSpec(count=9, size=96, area=(0.05, 0.32), flip="own", photometric=Photometric.dino_local())


@dataclasses.dataclass
class LOCAConfig(ObjectiveConfig):
    """Options of :class:`LOCA`.

    Args:
        reference: one view. Not another's: the classifier has one output a patch of it, so it must know its size.
        query_views: large queries; ``None`` for none.
        local_views: small queries; ``None`` for none.
        sight_ratio: share of the reference's tokens that queries look at, next to each other.
        attention_heads: of the block that looks; must divide the hidden size.
        prototypes, head_width, head_bottleneck: K and sizes of the projection head.
        student_temperature, teacher_temperature: 0.1 and 0.05.
        cluster_weight: of the second loss; 0 leaves out its head.
        momentum: (start, end) of the EMA teacher's cosine schedule.
    """

    reference: ViewSpec | dict = dataclasses.field(default_factory=_default_reference)
    query_views: ViewSpec | dict | str | None = dataclasses.field(default_factory=_default_query)
    local_views: ViewSpec | dict | str | None = dataclasses.field(default_factory=_default_local)
    sight_ratio: float = 0.2
    attention_heads: int = 4
    prototypes: int = 4096
    head_width: int = 2048
    head_bottleneck: int = 256
    student_temperature: float = 0.1
    teacher_temperature: float = 0.05
    cluster_weight: float = 1.0
    momentum: tuple[float, float] = (0.996, 1.0)

    def __post_init__(self) -> None:
        reference = as_view_spec(self.reference, _default_reference())
        if isinstance(reference, str) or reference.count != 1 or reference.rotation:
            raise InputError(f"reference is {self.reference!r}; give the spec of one view of each image, not turned")
        self.reference = reference
        for option, default in (("query_views", _default_query()), ("local_views", _default_local())):
            given = getattr(self, option)
            setattr(self, option, None if given is None else as_view_spec(given, default))
        if self.query_views is None and self.local_views is None:
            raise InputError("query_views and local_views are both null, so nothing is asked; give one of them")
        for option in ("attention_heads", "prototypes", "head_width", "head_bottleneck"):
            check_count(option, getattr(self, option), 1)
        check_fraction("sight_ratio", self.sight_ratio)
        for option in ("student_temperature", "teacher_temperature"):
            check_positive(option, getattr(self, option))
        check_at_least("cluster_weight", self.cluster_weight, 0)
        self.momentum = check_momentum(self.momentum)


def places_in(reference: Tensor, grid: tuple[int, int], centres: Tensor) -> Tensor:
    """The cells of a reference view in which points of the image lie: int64 [B, Q], -1 outside.

    Args:
        reference: [B, 4], cxcywh, not mirrored.
        grid: (rows, columns) of cells.
        centres: [B, Q, 2], x and y in the image.
    """
    low = to_xyxy(reference)[:, None, :2]
    at = (centres - low) / reference[:, None, 2:]  # [B, Q, 2] in the view
    rows, columns = grid
    cell = (at * at.new_tensor([columns, rows])).floor().long()
    inside = ((at >= 0) & (at < 1)).all(-1)
    return torch.where(inside, cell[..., 1] * columns + cell[..., 0], -1)


@in_float32
def image_mean(values: Tensor, counts: Tensor) -> Tensor:
    """Mean over images of the mean of their values that count: [B, Q] and bool [B, Q]; an image without any is 0."""
    return ((values * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)).mean()


@in_float32
def location_loss(logits: Tensor, places: Tensor) -> Tensor:
    """Cross-entropy: logits [B, Q, N], places int64 [B, Q] of which -1 does not count."""
    cross_entropy = F.cross_entropy(logits.transpose(1, 2), places, ignore_index=-1, reduction="none")  # [B, Q]
    return image_mean(cross_entropy, places >= 0)


@in_float32
def cluster_loss(logits: Tensor, targets: Tensor, inside: Tensor, temperature: float) -> Tensor:
    """Cross-entropy with the reference's assignments, less the entropy of the mean assignment over all processes.

    Args:
        logits: [M, K], of the queries' patches that lie inside, image by image.
        targets: [M, K], probabilities of the patches that they lie in.
        inside: bool [B, Q], M of them.
    """
    log_p = F.log_softmax(logits / temperature, dim=-1)
    weights = (inside / inside.sum(dim=1, keepdim=True).clamp(min=1))[inside].to(log_p)  # [M], 1 an image
    cross_entropy = -(weights[:, None] * targets * log_p).sum() / len(inside)
    total = all_reduce_sum((weights[:, None] * log_p.exp()).sum(dim=0))  # [K]
    mean = total / total.detach().sum().clamp(min=1e-6)
    return cross_entropy + (mean * mean.clamp(min=1e-12).log()).sum()


@torch.no_grad()
def location_prior(places: Tensor, views: Sequence[tuple[int, int]], cells: int) -> Tensor:
    """Accuracy of where a patch lies most often, known its place in its own view, as positions tell it.

    Args:
        places: int64 [B, Q] of :func:`places_in`. views: (number, patches of one) of each set of views; Q in all.
        cells: N.
    """
    counts = []
    for of_set, (count, patches) in zip(places.split([v * n for v, n in views], dim=1), views, strict=True):
        right = of_set.reshape(-1, count, patches).flatten(0, 1)[..., None] == torch.arange(cells, device=places.device)
        counts.append(blind_answers_right(right).sum())
    return torch.stack(counts).sum() / (places >= 0).sum().clamp(min=1)


class LOCA(Objective):
    """Patches of queries found in a reference, and clustered with it."""

    config_class = LOCAConfig
    kind = "where"
    title = "LOCA"
    own_metric = ("location_accuracy", "accuracy of patches' places in a reference")
    citation = """@inproceedings{caron2024location,
  title     = {Location-Aware Self-Supervised Transformers for Semantic Segmentation},
  author    = {Caron, Mathilde and Houlsby, Neil and Schmid, Cordelia},
  booktitle = {Proceedings of the IEEE/CVF Winter Conference on Applications of Computer Vision},
  year      = {2024}
}"""

    def __init__(self, config: LOCAConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        width = encoder.hidden_size
        check_heads("attention_heads", config.attention_heads, width)
        rows, columns = encoder.patches_of(self.config.reference.size)
        self.grid, self.patches = (rows, columns), rows * columns  # N
        self.in_sight = max(1, round(config.sight_ratio * self.patches))  # n
        self.block = CrossAttention(width, config.attention_heads)
        self.classifier = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, self.patches))
        self.head = self.teacher_head = None
        if config.cluster_weight:
            self.head = DINOHead(width, config.prototypes, config.head_width, config.head_bottleneck)
            self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        queries = {"query": self.config.query_views, "local": self.config.local_views}
        return {"reference": self.config.reference, **{n: spec for n, spec in queries.items() if spec is not None}}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        queries = {name: Encode(name) for name in batch.views if name != "reference"}
        return {**queries, "reference": Encode("reference", tower="teacher")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        names = [name for name in self.view_specs() if name != "reference"]
        tokens = torch.cat([encodings[name].patches.flatten(1, 2) for name in names], dim=1)  # [B, Q, D]
        centres = torch.cat([patch_centres(batch.views[name], encodings[name].grid) for name in names], dim=1)
        places = places_in(batch.views["reference"].drawn[0][:, 0], self.grid, centres)  # [B, Q]
        reference = encodings["reference"].patches[:, 0].detach()  # [B, N, D]
        logits = self.classifier(self.block(tokens, pick(reference, self.sight(batch.keys))))  # [B, Q, N]
        loss = location_loss(logits, places)
        inside = places >= 0
        correct = logits.detach().argmax(dim=-1) == places
        views = [encodings[name].patches.shape[1:3] for name in names]  # (V, patches of one) each
        logs = {
            "location_loss": loss.detach(),
            "location_accuracy": correct.sum() / inside.sum().clamp(min=1),
            "location_accuracy_prior": location_prior(places, views, self.patches),
        }
        if self.head is not None and self.teacher_head is not None:
            with torch.no_grad():
                assigned = sinkhorn(self.teacher_head(reference).flatten(0, 1), self.config.teacher_temperature)
            image = torch.arange(len(places), device=places.device)[:, None]
            targets = assigned[(image * self.patches + places)[inside]]  # [M, K]
            of_clusters = cluster_loss(self.head(tokens[inside]), targets, inside, self.config.student_temperature)
            loss = loss + self.config.cluster_weight * of_clusters
            logs["cluster_loss"] = of_clusters.detach()
        return ObjectiveOutput(loss, logs)

    def sight(self, keys: Tensor) -> Tensor:
        """Which tokens of the reference the queries look at, one after the other: int64 [B, n]."""
        starts = (uniform(keys, "loca/sight", (1,)) * (self.patches - self.in_sight + 1)).long()  # [B, 1]
        return starts + torch.arange(self.in_sight, device=keys.device)

    def teacher_momentum(self) -> tuple[float, float]:
        return self.config.momentum

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        return [] if self.head is None or self.teacher_head is None else [(self.head, self.teacher_head)]


def patch_centres(views: Views, grid: tuple[int, int]) -> Tensor:
    """Centres of the patches of views in the image: [B, V N, 2]."""
    if views.angles is not None:
        raise InputError("loca has no use for turned views: their patches are no upright boxes; drop the rotation.")
    return patch_boxes(*views.drawn, grid)[..., :2].flatten(1, 2)

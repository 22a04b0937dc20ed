r"""PixPro: patches of two views that show the same place are alike, the one after a look at what resembles it.

Letters: B images, 2 views of each, N patch tokens of a view, D hidden size, E embedding size.

    x, x'      projections of the student's and of the EMA teacher's patch tokens, [N, E]
    y_i      = sum over j of max(cos(x_i, x_j), 0)^gamma g(x_j)                    g linear; j over patches of i's view
    (i, j)     positive where |centre_i - centre_j| < threshold x the larger patch's diagonal        in the image
    loss     = mean over both directions, images and positive (i, j) of  1 - cos(y_i, x'_j)

Citation: Xie et al. 2021, "Propagate yourself: exploring pixel-level consistency for unsupervised visual representation
learning", arXiv:2011.10043, section 3.2 (PixPro: propagation, loss), 3.1 (positives), and its code (0.7 of the larger
diagonal, in coordinates in which the image is a square).

Deviations: an encoder's patches are the pixels of its map, and a layer a patch the 1 x 1 convolutions. The loss is half
of the paper's plus 1, and an image without positives counts as 0. Images are averaged in turn, then directions.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...views.pairs import patch_boxes
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..heads import batch_norm_mlp
from ..precision import in_float32
from ..prior import blind_answers_right
from ..validation import check_count, check_momentum, check_positive, check_two_views
from ..view_defaults import byol_views

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding


@dataclasses.dataclass
class PixProConfig(ObjectiveConfig):
    """Options of :class:`PixPro`.

    Args:
        views: two, or a reference to another objective's, such as ``"dino/global"``.
        threshold: how far apart the centres of a positive pair may be, in diagonals of the larger patch.
        gamma: sharpness of the propagation.
        head_width: hidden width of the projector.
        embedding_size: E.
        momentum: (start, end) of the EMA teacher's cosine schedule.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=byol_views)
    threshold: float = 0.7
    gamma: float = 2.0
    head_width: int = 4096
    embedding_size: int = 256
    momentum: tuple[float, float] = (0.99, 1.0)

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, byol_views())
        check_two_views("pix_pro", self.views)
        for option in ("threshold", "gamma"):
            check_positive(option, getattr(self, option))
        for option in ("head_width", "embedding_size"):
            check_count(option, getattr(self, option), 1)
        self.momentum = check_momentum(self.momentum)


def same_places(first: Tensor, second: Tensor, threshold: float) -> Tensor:
    """Which patches of two views show the same place: boxes [B, N, 4] and [B, M, 4] to bool [B, N, M]."""
    distances = torch.cdist(first[..., :2], second[..., :2], compute_mode="donot_use_mm_for_euclid_dist")
    diagonals = [boxes[..., 2:].norm(dim=-1) for boxes in (first, second)]
    larger = torch.maximum(diagonals[0][:, :, None], diagonals[1][:, None])
    return distances < threshold * larger


@in_float32
def propagate(embeddings: Tensor, transformed: Tensor, gamma: float) -> Tensor:
    """Each patch as the sum of what resembles it: x [..., N, E] and g(x) [..., N, E] to y [..., N, E]."""
    x = F.normalize(embeddings, dim=-1)
    return (x @ x.transpose(-1, -2)).clamp(min=0).pow(gamma) @ transformed


@in_float32
def consistency_loss(propagated: Tensor, targets: Tensor, positive: Tensor) -> Tensor:
    """Mean over images of the mean of 1 - cos over positive pairs: [B, N, E], [B, M, E], bool [B, N, M]."""
    distances = 1 - _cosines(propagated, targets)
    pairs = positive.sum(dim=(1, 2))
    return ((distances * positive).sum(dim=(1, 2)) / pairs.clamp(min=1)).mean()


@torch.no_grad()
@in_float32
def matching(propagated: Tensor, targets: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Patches that have positives and whose nearest is one of them: the share, and what their places alone tell.

    Arguments as :func:`consistency_loss`.
    """
    nearest = _cosines(propagated, targets).argmax(dim=-1, keepdim=True)
    asked = positive.any(dim=-1)  # [B, N]
    count = asked.sum().clamp(min=1)
    correct = positive.gather(2, nearest)[..., 0] & asked
    return correct.sum() / count, blind_answers_right(positive).sum() / count


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).transpose(1, 2)


class PixPro(Objective):
    """Pixel-to-propagation consistency of patches."""

    config_class = PixProConfig
    kind = "where"
    title = "PixPro"
    own_metric = ("matching_accuracy", "patches that find their place in the other view")
    citation = """@inproceedings{xie2021propagate,
  title     = {Propagate Yourself: Exploring Pixel-Level Consistency for Unsupervised Visual Representation Learning},
  author    = {Xie, Zhenda and Lin, Yutong and Zhang, Zheng and Cao, Yue and Lin, Stephen and Hu, Han},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2021}
}"""

    def __init__(self, config: PixProConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        sizes = [encoder.hidden_size, config.head_width, config.embedding_size]
        self.projector = batch_norm_mlp(sizes, last_norm=False)
        self.teacher_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.transform = nn.Linear(config.embedding_size, config.embedding_size)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"views": self.config.views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"student": Encode("views"), "teacher": Encode("views", tower="teacher")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        views = batch.views["views"]
        check_two_views("pix_pro", views)
        if views.angles is not None:
            raise InputError("pix_pro compares upright patches, but its views are turned; drop their rotation.")
        first, second = patch_boxes(*views.drawn, encodings["student"].grid).unbind(1)  # [B, N, 4] each
        positive = same_places(first, second, self.config.threshold)  # [B, N, N]
        embeddings = self.project(self.projector, encodings["student"].patches)  # [B, 2, N, E]
        propagated = propagate(embeddings, self.transform(embeddings), self.config.gamma)
        with torch.no_grad():
            targets = self.project(self.teacher_projector, encodings["teacher"].patches)
        forth = (propagated[:, 0], targets[:, 1], positive)
        back = (propagated[:, 1], targets[:, 0], positive.transpose(1, 2))
        loss = (consistency_loss(*forth) + consistency_loss(*back)) / 2
        accuracy, prior = matching(*forth)
        return ObjectiveOutput(loss, {"matching_accuracy": accuracy, "matching_accuracy_prior": prior})

    @staticmethod
    def project(projector: nn.Module, patches: Tensor) -> Tensor:
        """[B, 2, N, D] to [B, 2, N, E], each view with the batch statistics of its own patches."""
        views = [projector(view.flatten(0, 1)).unflatten(0, view.shape[:2]) for view in patches.unbind(1)]
        return torch.stack(views, dim=1)

    def teacher_momentum(self) -> tuple[float, float]:
        return self.config.momentum

    def ema_heads(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.projector, self.teacher_projector)]

r"""LeJEPA: all views of an image alike, and embeddings normally distributed. No teacher, no stop-gradient.

Letters: B images of this process, M of all processes, G global views, V global and local views, D hidden size,
E embedding size, R directions.

    z_v    = projector(encoder(x_v))
    inv    = mean over B, V and E of  (z_v - mean over the G global views of z)^2
    SIGReg = mean over V and R directions u of  M * integral over t from -3 to 3 of
                 |mean over M of exp(i t u . z_v) - exp(-t^2 / 2)|^2  exp(-t^2 / 2)  dt
    loss   = (1 - lambda) inv + lambda SIGReg

SIGReg ("sketched isotropic Gaussian regularization") is the Epps-Pulley statistic of each direction against the
standard normal distribution; the integral is the trapezoid rule's on 17 knots of its one half. Directions are drawn
anew for each forward, alike on all processes, whose images count together.

Citation: Balestriero, LeCun 2025, "LeJEPA: provable and scalable self-supervised learning without the heuristics",
arXiv:2511.08544, sections 4.2 and 4.3 (Epps-Pulley, SIGReg, algorithm 1), section 5.1 (loss, algorithm 2).

Choices: lambda 0.05; 256 directions, as in the authors' minimal example (their package has 1024).

Deviation: with gradient accumulation, the statistic is of one forward's images.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ...views.keyed_random import normal
from ...views.photometric import Photometric
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..gather import all_reduce_sum, first_key
from ..heads import batch_norm_mlp
from ..precision import in_float32
from ..retrieval import retrieval_accuracy
from ..validation import check_at_least, check_fraction

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

_LAST_KNOT, _KNOTS = 3.0, 17


def _default_global() -> ViewSpec:
    photometric = Photometric.byol(blur_prob=0.5, solarise_prob=0.2)
    return ViewSpec(count=2, size=224, area=(0.3, 1.0), flip="own", photometric=photometric)


def _default_local() -> ViewSpec:
    photometric = Photometric.byol(blur_prob=0.5, solarise_prob=0.2)
    return ViewSpec(count=6, size=98, area=(0.05, 0.3), flip="own", photometric=photometric)


@dataclasses.dataclass
class LeJEPAConfig(ObjectiveConfig):
    """Options of :class:`LeJEPA`.

    Args:
        global_views: their mean is what all views are to be like; at least 2.
        local_views: ``None`` for none.
        regularisation: lambda, share of SIGReg in the loss.
        directions: R.
        head_width: hidden width of the projector (3 layers).
        embedding_size: E.
    """

    global_views: ViewSpec | dict | str = dataclasses.field(default_factory=_default_global)
    local_views: ViewSpec | dict | str | None = dataclasses.field(default_factory=_default_local)
    regularisation: float = 0.05
    directions: int = 256
    head_width: int = 2048
    embedding_size: int = 64

    def __post_init__(self) -> None:
        self.global_views = as_view_spec(self.global_views, _default_global())
        self.local_views = None if self.local_views is None else as_view_spec(self.local_views, _default_local())
        if isinstance(self.global_views, ViewSpec):
            check_at_least("global_views.count", self.global_views.count, 2)
        check_fraction("regularisation", self.regularisation)
        for option in ("directions", "head_width", "embedding_size"):
            check_at_least(option, getattr(self, option), 1)


@in_float32
def invariance_loss(embeddings: Tensor, global_views: int) -> Tensor:
    """Mean squared distance of embeddings [B, V, E] to the mean of an image's first ``global_views``."""
    centres = embeddings[:, :global_views].mean(dim=1, keepdim=True)
    return (embeddings - centres).square().mean()


@in_float32
def sigreg(embeddings: Tensor, directions: Tensor) -> Tensor:
    """Epps-Pulley statistic of embeddings [B, V, E] along unit directions [E, R], mean over directions and views."""
    knots = torch.linspace(0, _LAST_KNOT, _KNOTS, device=embeddings.device, dtype=embeddings.dtype)
    characteristic = (-knots.square() / 2).exp()  # of the normal distribution, and the weight of each knot
    weights = 2 * _LAST_KNOT / (_KNOTS - 1) * characteristic
    weights[0], weights[-1] = weights[0] / 2, weights[-1] / 2
    angles = (embeddings @ directions.to(embeddings))[..., None] * knots  # [B, V, R, knots]
    count = all_reduce_sum(embeddings.new_full((1,), len(embeddings)))  # M
    real, imaginary = all_reduce_sum(torch.stack([angles.cos().sum(dim=0), angles.sin().sum(dim=0)])) / count
    error = (real - characteristic).square() + imaginary.square()  # [V, R, knots]
    return count[0] * (error @ weights).mean()


class LeJEPA(Objective):
    """Views alike, embeddings of the batch normally distributed."""

    config_class = LeJEPAConfig
    kind = "what"
    title = "LeJEPA"
    citation = """@article{balestriero2025lejepa,
  title   = {{LeJEPA}: Provable and Scalable Self-Supervised Learning Without the Heuristics},
  author  = {Balestriero, Randall and LeCun, Yann},
  journal = {arXiv preprint arXiv:2511.08544},
  year    = {2025}
}"""

    def __init__(self, config: LeJEPAConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        sizes = [encoder.hidden_size, config.head_width, config.head_width, config.embedding_size]
        self.projector = batch_norm_mlp(sizes, last_norm=False)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        specs = {"global": self.config.global_views}
        return specs if self.config.local_views is None else {**specs, "local": self.config.local_views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {view: Encode(view) for view in batch.views}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        classes = torch.cat([encodings[view].cls for view in self.view_specs()], dim=1)  # [B, V, D]
        embeddings = self.projector(classes.flatten(0, 1)).unflatten(0, classes.shape[:2])  # [B, V, E]
        shape = (self.config.embedding_size, self.config.directions)
        directions = F.normalize(normal(first_key(batch.keys), "lejepa/directions", shape)[0], dim=0)  # [E, R]
        invariance = invariance_loss(embeddings, batch.views["global"].pixels.shape[1])
        normality = sigreg(embeddings, directions)
        share = self.config.regularisation
        logs = {
            "accuracy": retrieval_accuracy(embeddings[:, 0], embeddings[:, 1]),
            "invariance": invariance.detach(),
            "sigreg": normality.detach(),
        }
        return ObjectiveOutput((1 - share) * invariance + share * normality, logs)

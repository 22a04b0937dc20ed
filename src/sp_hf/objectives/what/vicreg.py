r"""VICReg: two views of an image alike, each dimension of the embedding in use, no two of them telling the same.

Letters: B images of this process, M of all processes, D hidden size, E embedding size.

    z_v  = expander(encoder(x_v))
    inv  = mean over B and E of (z_1 - z_2)^2
    var  = sum over v of the mean over E of  max(0, 1 - sqrt(Var(z_v) + 1e-4))
    cov  = sum over v of  (squares off the diagonal of Cov(z_v), summed) / E
    loss = 25 inv + 25 var + 1 cov

Variances and covariances are of the images of all processes (unbiased, with gradient).

Citation: Bardes, Ponce, LeCun 2022, "VICReg: variance-invariance-covariance regularization for self-supervised
learning", arXiv:2105.04906, section 4.1 (equations 1 to 6), section 4.2 (expander).

Choice: var is the sum over both views, as equation 6 has it (the authors' code halves it).

Deviations: with gradient accumulation, statistics are of one forward's images. The paper trains by LARS.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...views.spec import ViewSpec, as_view_spec
from ..base import Batch, Encode, Objective, ObjectiveConfig, ObjectiveOutput
from ..gather import all_reduce_sum
from ..heads import batch_norm_mlp
from ..precision import in_float32
from ..retrieval import retrieval_accuracy
from ..validation import check_at_least, check_two_views
from ..view_defaults import byol_views

if TYPE_CHECKING:
    from ...encoders.encoder import Encoder, Encoding

_EPS = 1e-4


@dataclasses.dataclass
class VICRegConfig(ObjectiveConfig):
    """Options of :class:`VICReg`.

    Args:
        views: two views, or a reference to another objective's, such as ``"dino/global"``.
        head_width: hidden width of the expander (3 layers).
        embedding_size: E.
        invariance_weight, variance_weight, covariance_weight: of the three terms.
    """

    views: ViewSpec | dict | str = dataclasses.field(default_factory=byol_views)
    head_width: int = 8192
    embedding_size: int = 8192
    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 1.0

    def __post_init__(self) -> None:
        self.views = as_view_spec(self.views, byol_views())
        check_two_views("vicreg", self.views)
        check_at_least("head_width", self.head_width, 1)
        check_at_least("embedding_size", self.embedding_size, 2)
        for term in ("invariance_weight", "variance_weight", "covariance_weight"):
            check_at_least(term, getattr(self, term), 0)


@in_float32
def covariance(embeddings: Tensor) -> Tensor:
    """Unbiased covariance [E, E] of embeddings [B, E] of all processes, differentiable.

    Raises:
        ValueError: fewer than two images in all.
    """
    count = all_reduce_sum(embeddings.new_full((1,), len(embeddings)))
    if len(embeddings) < 2 and int(count) < 2:
        raise InputError(f"the covariance of {int(count)} image(s) is undefined; use a batch of at least 2 images.")
    centred = embeddings - all_reduce_sum(embeddings.sum(dim=0)) / count
    return all_reduce_sum(centred.T @ centred) / (count - 1)


@in_float32
def variance_loss(covariances: Tensor) -> Tensor:
    """How far standard deviations fall short of 1, mean over dimensions: of a covariance [E, E]."""
    return F.relu(1 - (covariances.diagonal() + _EPS).sqrt()).mean()


@in_float32
def covariance_loss(covariances: Tensor) -> Tensor:
    """Squares off the diagonal of a covariance [E, E], summed, over E."""
    return (covariances.square().sum() - covariances.diagonal().square().sum()) / len(covariances)


mean_squared_error = in_float32(F.mse_loss)  # made once: no compiled graph can wrap a function


class VICReg(Objective):
    """Invariance to views, with variance and covariance held up."""

    config_class = VICRegConfig
    kind = "what"
    title = "VICReg"
    citation = """@inproceedings{bardes2022vicreg,
  title     = {{VICReg}: Variance-Invariance-Covariance Regularization for Self-Supervised Learning},
  author    = {Bardes, Adrien and Ponce, Jean and LeCun, Yann},
  booktitle = {International Conference on Learning Representations},
  year      = {2022}
}"""

    def __init__(self, config: VICRegConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        sizes = [encoder.hidden_size, config.head_width, config.head_width, config.embedding_size]
        self.expander = batch_norm_mlp(sizes, last_norm=False)

    def view_specs(self) -> dict[str, ViewSpec | str]:
        return {"views": self.config.views}

    def requests(self, batch: Batch) -> dict[str, Encode]:
        return {"views": Encode("views")}

    def forward(self, batch: Batch, encodings: dict[str, Encoding]) -> ObjectiveOutput:
        check_two_views("vicreg", batch.views["views"])
        # View by view, as each has batch statistics of its own.
        first, second = (self.expander(cls) for cls in encodings["views"].cls.unbind(1))  # [B, E] each
        covariances = [covariance(first), covariance(second)]
        invariance = mean_squared_error(first, second)
        variance = variance_loss(covariances[0]) + variance_loss(covariances[1])
        redundancy = covariance_loss(covariances[0]) + covariance_loss(covariances[1])
        config = self.config
        loss = config.invariance_weight * invariance + config.variance_weight * variance
        loss = loss + config.covariance_weight * redundancy
        logs = {
            "accuracy": retrieval_accuracy(first, second),
            "invariance": invariance.detach(),
            "std": covariances[0].detach().diagonal().clamp(min=0).sqrt().mean(),
            "covariance": redundancy.detach(),
        }
        return ObjectiveOutput(loss, logs)
